//! What a client takes: the `Accept` header of RFC 9110.

use axum::http::{HeaderMap, header};

/// Whether a media type is one of those that the request takes. Without the header, every one is.
pub(super) fn accepts(headers: &HeaderMap, media_type: &str) -> bool {
    let mut ranges =
        headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok()).flat_map(|text| text.split(','));
    let essence = |text: &str| text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let wanted = essence(media_type);
    let kind = wanted.split('/').next().unwrap_or_default();
    let mut told = false;
    // The most particular range counts: `text/csv;q=0, */*` takes all but CSV.
    let mut best: Option<(u8, bool)> = None;
    for range in ranges.by_ref().filter(|range| !range.trim().is_empty()) {
        told = true;
        let name = essence(range);
        let rank = match name.as_str() {
            "*/*" => 0,
            name if name.strip_suffix("/*") == Some(kind) => 1,
            name if name == wanted => 2,
            _ => continue,
        };
        if best.is_none_or(|(before, _)| before <= rank) {
            best = Some((rank, !is_refused(range)));
        }
    }
    !told || best.is_some_and(|(_, taken)| taken)
}

/// Whether a range has the weight 0.
fn is_refused(range: &str) -> bool {
    let weight = range.split(';').skip(1).find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        name.trim().eq_ignore_ascii_case("q").then(|| value.trim().parse::<f32>().ok())?
    });
    weight == Some(0.0)
}

#[cfg(test)]
mod tests {
    use super::accepts;
    use axum::http::{HeaderMap, HeaderValue, header};

    #[test]
    fn ranges_are_taken_by_how_particular_they_are() {
        for (accept, media_type, taken) in [
            (None, "text/csv", true),
            (Some(""), "text/csv", true),
            (Some("*/*"), "text/csv", true),
            (Some("text/*"), "text/csv; charset=utf-8", true),
            (Some("TEXT/CSV"), "text/csv; charset=utf-8", true),
            (Some("application/json, text/csv;q=0.5"), "text/csv", true),
            (Some("application/json"), "text/csv", false),
            (Some("text/csv;q=0, */*"), "text/csv", false),
            (Some("*/*;q=0, text/csv"), "text/csv", true),
            (Some("text/csv; q=0"), "text/csv", false),
            (Some("tex/*"), "text/csv", false),
            (Some("garbage"), "text/csv", false),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(accept) = accept {
                headers.insert(header::ACCEPT, HeaderValue::from_static(accept));
            }
            assert_eq!(accepts(&headers, media_type), taken, "{accept:?} {media_type}");
        }
    }
}
