pub(crate) const ROWS: &[super::Row] = &[];
