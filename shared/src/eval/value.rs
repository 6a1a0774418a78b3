//! Values and variables as they come in: plain JSON, or tagged where that can't say it.

use super::{VARIABLES_MAX, Variables};
use crate::spec::Scalar;
use serde::de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor};
use serde::ser::{SerializeMap, SerializeSeq};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::marker::PhantomData;

/// Names and what belongs to them, at most [`VARIABLES_MAX`], none twice.
struct Named<T>(PhantomData<T>);

impl<'de, T: FromPlain> Visitor<'de> for Named<T> {
    type Value = Vec<(String, T)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of names and values")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut named = Vec::new();
        while let Some(name) = map.next_key::<String>()? {
            if named.len() == VARIABLES_MAX {
                return Err(A::Error::custom(format_args!("more than {VARIABLES_MAX} names")));
            }
            named.push((name, map.next_value_seed(Plain(PhantomData))?));
        }
        if named.len() > 1 {
            let mut names: Vec<&str> = named.iter().map(|(name, _)| name.as_str()).collect();
            names.sort_unstable();
            if let Some(twice) = names.windows(2).find(|pair| pair[0] == pair[1]) {
                return Err(A::Error::custom(format_args!("{:?} is given twice", twice[0])));
            }
        }
        Ok(named)
    }
}

/// What can be read from plain JSON.
trait FromPlain: Sized {
    fn from_plain<'de, D: Deserializer<'de>>(d: D) -> Result<Self, D::Error>;
}

struct Plain<T>(PhantomData<T>);

impl<'de, T: FromPlain> DeserializeSeed<'de> for Plain<T> {
    type Value = T;

    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<T, D::Error> {
        T::from_plain(d)
    }
}

impl FromPlain for Scalar {
    fn from_plain<'de, D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_any(ScalarVisitor)
    }
}

impl FromPlain for Vec<Scalar> {
    fn from_plain<'de, D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_seq(ListVisitor)
    }
}

struct ScalarVisitor;

impl<'de> Visitor<'de> for ScalarVisitor {
    type Value = Scalar;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number, boolean, string, array, null, or a tagged value such as {\"float\": 2}")
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Scalar, E> {
        Ok(Scalar::Boolean(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Scalar, E> {
        Ok(Scalar::Int(value))
    }

    // As in a formula, where a literal that is too large for an int is a float.
    fn visit_u64<E: Error>(self, value: u64) -> Result<Scalar, E> {
        Ok(i64::try_from(value).map_or(Scalar::Float(value as f64), Scalar::Int))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Scalar, E> {
        Ok(Scalar::Float(value))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Scalar, E> {
        Ok(Scalar::String(value.into()))
    }

    fn visit_string<E: Error>(self, value: String) -> Result<Scalar, E> {
        Ok(Scalar::String(value))
    }

    fn visit_unit<E: Error>(self) -> Result<Scalar, E> {
        Ok(Scalar::Empty)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Scalar, A::Error> {
        ListVisitor.visit_seq(seq).map(Scalar::Tuple)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Scalar, A::Error> {
        Scalar::deserialize(serde::de::value::MapAccessDeserializer::new(map))
    }
}

struct ListVisitor;

impl<'de> Visitor<'de> for ListVisitor {
    type Value = Vec<Scalar>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of values")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<Scalar>, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = seq.next_element_seed(Plain(PhantomData))? {
            values.push(value);
        }
        Ok(values)
    }
}

/// A value that reads back to itself: plain where that is enough.
struct Written<'a>(&'a Scalar);

impl Serialize for Written<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Scalar::Int(value) => s.serialize_i64(*value),
            Scalar::Float(value) if value.is_finite() => s.serialize_f64(*value),
            Scalar::Float(_) => self.0.serialize(s),
            Scalar::Boolean(value) => s.serialize_bool(*value),
            Scalar::String(text) => s.serialize_str(text),
            Scalar::Tuple(values) => WrittenList(values).serialize(s),
            Scalar::Empty => s.serialize_unit(),
        }
    }
}

struct WrittenList<'a>(&'a [Scalar]);

impl Serialize for WrittenList<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let mut seq = s.serialize_seq(Some(self.0.len()))?;
        for value in self.0 {
            seq.serialize_element(&Written(value))?;
        }
        seq.end()
    }
}

impl<'de> Deserialize<'de> for Variables {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_map(Named(PhantomData)).map(Self)
    }
}

impl Serialize for Variables {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let mut map = s.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, &Written(value))?;
        }
        map.end()
    }
}

/// Columns by name.
pub(super) struct Columns(pub(super) Vec<(String, Vec<Scalar>)>);

impl<'de> Deserialize<'de> for Columns {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_map(Named(PhantomData)).map(Self)
    }
}

impl Serialize for Columns {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let mut map = s.serialize_map(Some(self.0.len()))?;
        for (name, values) in &self.0 {
            map.serialize_entry(name, &WrittenList(values))?;
        }
        map.end()
    }
}
