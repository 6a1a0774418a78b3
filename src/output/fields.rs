//! JSON objects whose members keep their order and whose values keep their text, so that no number is printed in
//! another form than the cluster rendered it.

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::fmt;

/// The members of an object in their order.
#[derive(Debug)]
pub(crate) struct Fields(pub(crate) Vec<(String, Box<RawValue>)>);

impl Fields {
    /// The member with this name.
    pub(crate) fn get(&self, name: &str) -> Option<&RawValue> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| &**value)
    }
}

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Fields;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Fields(members))
            }
        }
        deserializer.deserialize_map(Members)
    }
}

/// A value as it reads outside of JSON: text without quotes, null as nothing, everything else as it stands.
pub(crate) fn text(value: &RawValue) -> String {
    let raw = value.get();
    match raw.as_bytes().first() {
        Some(b'"') => serde_json::from_str(raw).unwrap_or_else(|_| raw.to_owned()),
        Some(b'n') => String::new(),
        _ => raw.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_and_numbers_are_kept() {
        let fields: Fields = serde_json::from_str(r#"{"z":1e300,"a":-0.0,"s":"x\"y","n":null,"t":[1,2]}"#).unwrap();
        let shown: Vec<_> = fields.0.iter().map(|(k, v)| format!("{k}={}", text(v))).collect();
        assert_eq!(shown, ["z=1e300", "a=-0.0", "s=x\"y", "n=", "t=[1,2]"]);
        assert_eq!(fields.get("z").map(RawValue::get), Some("1e300"));
        assert!(fields.get("q").is_none());
    }
}
