//! What a saved view looks like: a seal, a header and one native record per line.
//!
//! ```text
//! service-registry view 1 crc32=8c736521
//! {"scope":"etcd/services","service":"orders","written_at_ms":1700000000000,"source":"…","revision":7,"count":2}
//! {"service":"orders","id":"a1","endpoints":["http://10.0.0.7:8080"],"weight":100,"status":"serving"}
//! {"service":"orders","id":"a2",…}
//! ```
//!
//! The checksum covers everything after the first line. It finds torn writes and rot; it is no proof of who wrote
//! the file, so records are decoded under the same limits as those of a registry.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use super::{Stored, file::Refusal};
use crate::{
    Error, ErrorKind,
    backend::SourceId,
    model::{Target, decode_record, encode_record},
};

/// Largest file, in bytes.
pub(super) const MAX_BYTES: usize = 16 * 1024 * 1024;
const MAGIC: &str = "service-registry view ";
const VERSION: u32 = 1;

/// What a file is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Title {
    scope: String,
    service: String,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    qualifiers: BTreeMap<String, String>,
}

#[derive(Serialize, Deserialize)]
struct Header {
    #[serde(flatten)]
    title: Title,
    written_at_ms: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    source: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    revision: Option<u64>,
    count: usize,
}

impl Title {
    pub(super) fn new(scope: &str, target: &Target) -> Self {
        Self {
            scope: scope.to_owned(),
            service: target.service().to_string(),
            qualifiers: target.qualifiers().iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect(),
        }
    }

    pub(super) fn service(&self) -> &str {
        &self.service
    }

    /// All of it in one text, for the file's name.
    pub(super) fn text(&self) -> String {
        let mut text = format!("{};{}", self.scope, self.service);
        for (key, value) in &self.qualifiers {
            text.push_str(&format!(";{key}={value}"));
        }
        text
    }
}

/// Encodes a view.
///
/// # Errors
/// [`ErrorKind::InvalidArgument`] if it has more than 16 MiB.
pub(super) fn encode(stored: &Stored, title: &Title) -> Result<Vec<u8>, Error> {
    // A record that can't be written leaves one instance out, not the view.
    let records: Vec<Vec<u8>> =
        stored.instances.iter().filter_map(|instance| encode_record(instance, None).ok()).collect();
    let header = Header {
        title: title.clone(),
        written_at_ms: u64::try_from(stored.written_at.as_millis()).unwrap_or(u64::MAX),
        source: stored.source.as_ref().map(|source| source.as_str().to_owned()),
        revision: stored.revision,
        count: records.len(),
    };
    let mut body = serde_json::to_vec(&header)
        .map_err(|e| Error::invalid("the header of a view can't be written").with_source(e))?;
    body.push(b'\n');
    for record in records {
        body.extend_from_slice(&record);
        body.push(b'\n');
    }
    let mut bytes = format!("{MAGIC}{VERSION} crc32={:08x}\n", crc32fast::hash(&body)).into_bytes();
    bytes.append(&mut body);
    if bytes.len() > MAX_BYTES {
        let message = format!("a saved view has at most {MAX_BYTES} bytes, this one {}", bytes.len());
        return Err(Error::new(ErrorKind::InvalidArgument, message));
    }
    Ok(bytes)
}

/// Decodes a view and counts the records that were skipped.
pub(super) fn decode(bytes: &[u8], title: &Title) -> Result<(Stored, usize), Refusal> {
    let (seal, body) = split_line(bytes).ok_or(Refusal::new("it has no first line"))?;
    let seal = std::str::from_utf8(seal).map_err(|_| Refusal::new("it isn't a saved view"))?;
    let (version, sum) = seal
        .strip_prefix(MAGIC)
        .and_then(|rest| rest.split_once(" crc32="))
        .ok_or(Refusal::new("it isn't a saved view"))?;
    if version != VERSION.to_string() {
        return Err(Refusal::new("its format version is unknown"));
    }
    if sum != format!("{:08x}", crc32fast::hash(body)) {
        return Err(Refusal::new("its checksum is wrong"));
    }
    let (header, records) = split_line(body).ok_or(Refusal::new("it has no header"))?;
    let header: Header =
        serde_json::from_slice(header).map_err(|_| Refusal::new("its header is malformed"))?;
    if header.title != *title {
        return Err(Refusal::new("it belongs to another target"));
    }
    let lines: Vec<&[u8]> = records.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).collect();
    if lines.len() != header.count {
        return Err(Refusal::new("it doesn't hold as many records as it says"));
    }
    let decoded: Vec<_> = lines.iter().filter_map(|line| decode_record(line).ok()).map(Arc::new).collect();
    let skipped = lines.len() - decoded.len();
    let stored = Stored {
        instances: decoded,
        source: header.source.map(SourceId::new),
        revision: header.revision,
        written_at: Duration::from_millis(header.written_at_ms),
    };
    Ok((stored, skipped))
}

fn split_line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.iter().position(|byte| *byte == b'\n')?;
    Some((&bytes[..end], &bytes[end + 1..]))
}
