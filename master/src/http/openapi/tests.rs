use super::without_links;

#[test]
fn links_to_the_source_become_code() {
    for (text, plain) in [
        ("nothing", "nothing"),
        ("see [`crate::calendar`].", "see `calendar`."),
        ("a [`X`](crate::x::X) and [`Self::y`]", "a `X` and `y`"),
        ("half [`open", "half [`open"),
    ] {
        assert_eq!(without_links(text), plain);
    }
}
