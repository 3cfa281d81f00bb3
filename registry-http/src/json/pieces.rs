//! Lists of which most entries are those of the last one, so that nobody has to scan them for their ends.

use registry_core::backend::Hashing;
use serde_json::value::RawValue;

/// What the entries of the last array were.
///
/// To scan an entry for its end costs ten times what hashing it does. But an object that is the same as before is as long
/// as before: if so many bytes have the hash of the one that stood there in the last array, they are that one, and it ends
/// with them. Only others are scanned.
#[derive(Debug, Default)]
pub(crate) struct Pieces {
    hashing: Hashing,
    last: Vec<Piece>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Piece {
    hash: u64,
    length: usize,
}

/// The entries of one array.
#[derive(Debug)]
pub(crate) struct Cut<'a> {
    bytes: &'a [u8],
    pieces: Vec<Piece>,
    /// Where the closing bracket is.
    pub(crate) close: usize,
    /// Whether they are those of the last array, in its order.
    pub(crate) is_same: bool,
}

/// So many places to either side an entry is looked for that isn't where it was. Whoever is further away is scanned, and
/// so are those behind: once, as that list is the last one of the next.
const NEAR: usize = 32;

impl Pieces {
    /// Cuts the array that was opened just before `bytes`; `None` if it is none.
    pub(crate) fn cut<'a>(&self, bytes: &'a [u8]) -> Option<Cut<'a>> {
        let mut pieces = Vec::with_capacity(self.last.len());
        let mut array = Array::new(bytes);
        let mut likely = 0;
        while let Some(at) = array.element() {
            let rest = &bytes[at..];
            let piece = match self.last.get(likely).filter(|known| self.begins(rest, known)) {
                Some(known) => *known,
                None => {
                    let piece = self.piece(scan(rest)?);
                    likely = self.near(likely, piece);
                    piece
                }
            };
            likely += 1;
            array.pass(piece.length);
            pieces.push(piece);
        }
        let is_same = pieces == self.last;
        Some(Cut { bytes, pieces, close: array.close()?, is_same })
    }

    /// Where it stood, if that is near by; else it probably replaces what stood here.
    fn near(&self, here: usize, piece: Piece) -> usize {
        let from = here.saturating_sub(NEAR).min(self.last.len());
        let to = (here + NEAR).min(self.last.len());
        self.last[from..to].iter().position(|known| *known == piece).map_or(here, |at| from + at)
    }

    /// Whether this is what follows. A number might go on where the known one ended, an object can't.
    fn begins(&self, rest: &[u8], known: &Piece) -> bool {
        rest.first() == Some(&b'{')
            && rest.get(..known.length).is_some_and(|entry| self.hashing.of(&[entry]) == known.hash)
    }

    fn piece(&self, entry: &[u8]) -> Piece {
        Piece { hash: self.hashing.of(&[entry]), length: entry.len() }
    }

    /// Remembers this array instead of the last one.
    pub(crate) fn keep(&mut self, cut: Cut<'_>) {
        self.last = cut.pieces;
    }

    pub(crate) fn forget(&mut self) {
        self.last.clear();
    }

    /// Remembers one entry more, and gives its hash.
    pub(crate) fn note(&mut self, entry: &[u8]) -> u64 {
        let piece = self.piece(entry);
        self.last.push(piece);
        piece.hash
    }
}

impl<'a> Cut<'a> {
    pub(crate) fn len(&self) -> usize {
        self.pieces.len()
    }

    /// Each entry and its hash.
    pub(crate) fn entries(&self) -> impl ExactSizeIterator<Item = (&'a [u8], u64)> {
        let mut array = Array::new(self.bytes);
        self.pieces.iter().map(move |piece| {
            let at = array.element().expect("it was there");
            array.pass(piece.length);
            (&self.bytes[at..][..piece.length], piece.hash)
        })
    }
}

/// What stands between the elements of an array.
pub(crate) struct Array<'a> {
    bytes: &'a [u8],
    at: usize,
    met: usize,
    /// Where the closing bracket is.
    close: Option<usize>,
}

impl<'a> Array<'a> {
    /// The array that was opened just before `bytes`.
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0, met: 0, close: None }
    }

    /// Where the next element begins; `None` at the end, and where neither a comma nor the end is.
    #[inline]
    pub(crate) fn element(&mut self) -> Option<usize> {
        match (self.met, self.solid()?) {
            (_, b']') => {
                self.close = Some(self.at);
                return None;
            }
            (0, _) => {}
            (_, b',') => {
                self.at += 1;
                self.solid()?;
            }
            _ => return None,
        }
        Some(self.at)
    }

    /// Goes on behind an element of so many bytes.
    #[inline]
    pub(crate) fn pass(&mut self, length: usize) {
        self.at += length;
        self.met += 1;
    }

    /// How many elements there were.
    pub(crate) fn met(&self) -> usize {
        self.met
    }

    /// Where the closing bracket is, if that is what ended it.
    pub(crate) fn close(&self) -> Option<usize> {
        self.close
    }

    /// The next byte that isn't white space, as JSON has it.
    #[inline]
    fn solid(&mut self) -> Option<u8> {
        loop {
            match self.bytes.get(self.at)? {
                b' ' | b'\t' | b'\n' | b'\r' => self.at += 1,
                solid => return Some(*solid),
            }
        }
    }
}

/// The value that these bytes begin with.
fn scan(bytes: &[u8]) -> Option<&[u8]> {
    let value = serde_json::Deserializer::from_slice(bytes).into_iter::<&RawValue>().next()?.ok()?;
    Some(value.get().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The next array by what is remembered: whether it is the last one, and its entries. What is cut must be what a
    /// general reader cuts, and by nothing but their bytes two entries have one hash.
    fn next(pieces: &mut Pieces, array: &str) -> (bool, Vec<String>) {
        let bytes = &array.as_bytes()[1..];
        let cut = pieces.cut(bytes).unwrap_or_else(|| panic!("{array}"));
        let plain: Vec<&RawValue> = serde_json::from_str(&array[..cut.close + 2]).unwrap();
        let entries: Vec<_> = cut.entries().collect();
        assert!(entries.iter().map(|(entry, _)| *entry).eq(plain.iter().map(|raw| raw.get().as_bytes())));
        assert!(entries.iter().all(|(entry, hash)| pieces.hashing.of(&[entry]) == *hash));
        assert_eq!(cut.len(), entries.len());
        let is_same = cut.is_same;
        pieces.keep(cut);
        (is_same, plain.iter().map(|raw| raw.get().to_owned()).collect())
    }

    #[test]
    fn an_array_is_cut_as_it_stands_whatever_the_last_one_was() {
        let mut pieces = Pieces::default();
        let long = |ids: &mut dyn Iterator<Item = usize>| {
            let entries: Vec<_> = ids.map(|id| format!(r#"{{"id":{id},"a":"]}},{{"}}"#)).collect();
            format!("[{}]", entries.join(","))
        };
        let arrays = [
            "[]".to_owned(),
            r#"[{"a":"]"},{"a":"b"}]"#.to_owned(),
            r#"[{"a":"]"} ,	{"a":"c"}
]"#
            .to_owned(),
            r#"[{"a":"c"},{"a":"]"}],{"a":"x"}]"#.to_owned(),
            "[1,2]".to_owned(),
            "[12,2]".to_owned(),
            r#"[1.5,2e9,null,"a","a\"",[],[[]],{}]"#.to_owned(),
            r#"["a\"","a",[],[[]],{},{}]"#.to_owned(),
            long(&mut (0..200)),
            long(&mut (3..200)),
            long(&mut (3..50).chain(60..61).chain(52..200)),
            long(&mut (0..150).chain([151, 150]).chain(152..210)),
            long(&mut (0..210).rev()),
            "[]".to_owned(),
        ];
        for before in &arrays {
            for array in &arrays {
                next(&mut pieces, before);
                assert_eq!(next(&mut pieces, array).0, before == array, "{array} after {before}");
            }
        }
        assert!(next(&mut pieces, "[ ]").0, "white space doesn't count");
    }

    #[test]
    fn what_is_no_array_is_not_cut_and_teaches_nothing() {
        let mut pieces = Pieces::default();
        next(&mut pieces, "[1,{}]");
        for array in [
            "",
            "1",
            "1,",
            "1,]",
            ",1]",
            "1 2]",
            "1,,2]",
            "1\u{c},2]",
            "{]",
            "1,{}",
            "1,{},\"\\x\"]",
            "01]",
            "1,{}}",
        ] {
            assert!(pieces.cut(array.as_bytes()).is_none(), "{array}");
        }
        assert!(pieces.cut(b"1,\"\xff\"]").is_none(), "it is no text");
        assert!(next(&mut pieces, "[1,{}]").0);
        pieces.forget();
        assert!(!next(&mut pieces, "[1,{}]").0);
    }
}
