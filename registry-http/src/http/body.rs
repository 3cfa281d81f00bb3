//! The body of an answer, within its limits.
//!
//! A compressed one is decompressed as it comes, so that its limits hold before it is whole: by length, and by how much
//! comes out of how little. What registries write shrinks to a thirtieth at best.

#[cfg(feature = "eureka")]
use std::io;

use bytes::{Bytes, BytesMut};
#[cfg(feature = "eureka")]
use flate2::write::MultiGzDecoder;
use registry_core::ErrorKind;

use super::error::Fault;

/// Most bytes that may come out of one.
#[cfg(feature = "eureka")]
const MAX_RATIO: usize = 100;
/// So much may come out of any few.
#[cfg(feature = "eureka")]
const FREE: usize = 1024 * 1024;

/// A body of which some has been read.
pub(super) enum Reading {
    Plain(Limited),
    #[cfg(feature = "eureka")]
    Gzip(Box<MultiGzDecoder<Limited>>),
}

/// What there is of it.
pub(super) struct Limited {
    whole: BytesMut,
    limit: usize,
    /// Compressed bytes that it was made of.
    #[cfg(feature = "eureka")]
    came: usize,
    /// Why no more is taken.
    #[cfg(feature = "eureka")]
    refused: Option<String>,
}

impl Reading {
    /// # Errors
    /// `Protocol` if it is announced as too long.
    pub(super) fn new(limit: usize, announced: u64) -> Result<Self, Fault> {
        let body = Limited {
            whole: BytesMut::new(),
            limit,
            #[cfg(feature = "eureka")]
            came: 0,
            #[cfg(feature = "eureka")]
            refused: None,
        };
        if usize::try_from(announced).map_or(true, |length| length > limit) {
            return Err(refused(body.too_long()));
        }
        Ok(Self::Plain(body))
    }

    /// The same of a compressed one.
    #[cfg(feature = "eureka")]
    pub(super) fn compressed(self) -> Self {
        match self {
            Self::Plain(body) => Self::Gzip(Box::new(MultiGzDecoder::new(body))),
            compressed @ Self::Gzip(_) => compressed,
        }
    }

    /// Takes more of it in.
    ///
    /// # Errors
    /// `Protocol` as soon as it is longer than its limit, or if it isn't compressed as it is said to be.
    pub(super) fn take(&mut self, chunk: &[u8]) -> Result<(), Fault> {
        match self {
            Self::Plain(body) => body.take(chunk).map_err(refused),
            #[cfg(feature = "eureka")]
            Self::Gzip(body) => {
                body.get_mut().came += chunk.len();
                let result = io::Write::write_all(body, chunk);
                result.map_err(|error| body.get_mut().fault(&error))
            }
        }
    }

    /// The whole.
    ///
    /// # Errors
    /// `Protocol` if what was compressed isn't.
    pub(super) fn finish(self) -> Result<Bytes, Fault> {
        match self {
            Self::Plain(body) => Ok(body.whole.freeze()),
            #[cfg(feature = "eureka")]
            Self::Gzip(mut body) => {
                // Of nothing at all nothing comes out, and some servers say that it is compressed.
                if body.get_ref().came > 0 {
                    body.try_finish().map_err(|error| body.get_mut().fault(&error))?;
                }
                Ok(std::mem::take(&mut body.get_mut().whole).freeze())
            }
        }
    }
}

impl Limited {
    fn take(&mut self, bytes: &[u8]) -> Result<(), String> {
        if self.whole.len() + bytes.len() > self.limit {
            return Err(self.too_long());
        }
        self.whole.extend_from_slice(bytes);
        Ok(())
    }

    fn too_long(&self) -> String {
        format!("the answer is longer than {} bytes", self.limit)
    }

    /// What went wrong with the compression, or because of it.
    #[cfg(feature = "eureka")]
    fn fault(&mut self, error: &io::Error) -> Fault {
        refused(self.refused.take().unwrap_or_else(|| format!("the answer is no gzip: {error}")))
    }
}

/// What comes out of a compressed body.
#[cfg(feature = "eureka")]
impl io::Write for Limited {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let more = self.whole.len() + bytes.len();
        let taken = match more > FREE && more / MAX_RATIO > self.came {
            true => Err(format!("the answer grows to more than {MAX_RATIO} times its length")),
            false => self.take(bytes),
        };
        taken.map(|()| bytes.len()).map_err(|why| {
            self.refused = Some(why);
            io::ErrorKind::FileTooLarge.into()
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn refused(why: String) -> Fault {
    Fault::new(ErrorKind::Protocol, true, why)
}

#[cfg(feature = "eureka")]
#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{Compression, write::GzEncoder};

    use super::*;

    fn compressed(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn read(limit: usize, body: &[u8]) -> Result<Bytes, Fault> {
        let mut reading = Reading::new(limit, 0)?.compressed();
        for chunk in body.chunks(1000) {
            reading.take(chunk)?;
        }
        reading.finish()
    }

    #[test]
    fn what_grows_to_more_than_a_hundred_times_its_length_is_refused_before_it_has() {
        let zeros = vec![0; 64 * 1024 * 1024];
        let error = read(zeros.len(), &compressed(&zeros)).unwrap_err();
        assert!(error.line().contains("100 times"), "{}", error.line());
        // As little as that harms nobody.
        let few = vec![0; FREE];
        assert_eq!(read(FREE, &compressed(&few)).unwrap(), few);
        let entry = |n: u64| format!(r#"{{"instanceId":"i-{n}","port":{},"status":"UP"}}"#, n * 7919 % 65536);
        let list: String = (0..40_000).map(entry).collect();
        assert!(list.len() > FREE);
        assert_eq!(read(list.len(), &compressed(list.as_bytes())).unwrap(), list);
    }

    #[test]
    fn what_ends_early_or_is_no_gzip_is_an_error_and_nothing_is_nothing() {
        let whole = compressed(b"{\"applications\":{}}");
        for (body, why) in [(&whole[..whole.len() - 4], "no gzip"), (b"{}", "no gzip")] {
            let error = read(100, body).unwrap_err();
            assert!(error.line().contains(why), "{}", error.line());
        }
        assert!(read(10, &whole).unwrap_err().line().contains("longer than 10"));
        assert_eq!(read(100, b"").unwrap(), "");
    }
}
