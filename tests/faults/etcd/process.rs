pub(crate) const ROWS: &[super::Row] = &[];
pub(crate) async fn play_the_child() -> bool {
    false
}
