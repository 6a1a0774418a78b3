//! Axes: `x=START:STOP:STEP`, `x=START:STOP/COUNT` and `x=a,b,c`.

use super::error::SourceError;
use super::text::{check_name, list, list_type, literal, split, split_name};
use super::{ROWS_MAX, list_column};
use crate::block::Column;
use crate::spec::{Axis, AxisValues, ColumnType, Scalar};

/// Points of one axis; as many as a job may have rows, and few enough that every index is an exact float.
pub const AXIS_POINTS_MAX: u64 = ROWS_MAX;

/// Reads one axis.
pub fn parse_axis(text: &str) -> Result<Axis, SourceError> {
    let fail = |problem: String| SourceError::Axis { input: text.to_owned(), problem };
    let Some((name, rest)) = split_name(text) else {
        return Err(fail("write a name, = and values, as in x=0:10:1, x=0:1/11 or x=1,2,3".into()));
    };
    check_name(name)?;
    let axis = Axis { name: name.to_owned(), values: values(rest).map_err(fail)? };
    Points::new(&axis.values).map_err(fail)?;
    Ok(axis)
}

fn values(text: &str) -> Result<AxisValues, String> {
    match split(text, ':')[..] {
        [_] => Ok(AxisValues::List(list(&split(text, ','))?)),
        [start, stop, step] => match (number(start)?, number(stop)?, number(step)?) {
            (Scalar::Int(start), Scalar::Int(stop), Scalar::Int(step)) => {
                Ok(AxisValues::IntRange { start, stop, step })
            }
            (start, stop, step) => {
                Ok(AxisValues::FloatRange { start: as_float(start)?, stop: as_float(stop)?, step: as_float(step)? })
            }
        },
        [start, rest] => {
            let [stop, count] = split(rest, '/')[..] else {
                return Err(format!(
                    "{text:?} has no step and no count; write {text}:STEP for START + i*STEP below STOP, or {text}/COUNT \
                     for COUNT points with both ends"
                ));
            };
            let count = match number(count)? {
                Scalar::Int(count) if count > 0 => count as u64,
                _ => return Err(format!("{count:?} is no number of points; write a positive integer")),
            };
            Ok(AxisValues::Linspace { start: as_float(number(start)?)?, stop: as_float(number(stop)?)?, count })
        }
        _ => Err(format!("{text:?} has too many colons; a range is START:STOP:STEP or START:STOP/COUNT")),
    }
}

fn number(text: &str) -> Result<Scalar, String> {
    if text.is_empty() {
        return Err("a part of the range is empty; it has no defaults".into());
    }
    match literal(text) {
        Ok(int @ Scalar::Int(_)) => Ok(int),
        Ok(Scalar::Float(x)) if x.is_finite() => {
            if text.trim_start_matches(['-', '+']).bytes().all(|b| b.is_ascii_digit()) {
                return Err(format!("{text} is outside the range of an int (64 bits); write {text}.0 for a float"));
            }
            Ok(Scalar::Float(x))
        }
        _ => Err(format!("{text:?} is not a finite number")),
    }
}

/// An integer of a float axis must be a float without rounding.
fn as_float(number: Scalar) -> Result<Scalar, String> {
    match number {
        Scalar::Int(x) if x as f64 as i128 != i128::from(x) => {
            Err(format!("{x} stands beside floats, but is no float itself: {} is the nearest", x as f64))
        }
        Scalar::Int(x) => Ok(Scalar::Float(x as f64)),
        other => Ok(other),
    }
}

/// An axis, checked: its points by their index.
#[derive(Clone, Debug)]
pub(super) struct Points {
    /// How many; at least one.
    pub(super) len: u64,
    pub(super) kind: PointsKind,
}

#[derive(Clone, Debug)]
pub(super) enum PointsKind {
    /// start + i * step.
    Ints { start: i64, step: i64 },
    /// start + i * step, except that the last may be given.
    Floats { start: f64, step: f64, last: Option<f64> },
    /// The i-th.
    List(Column),
}

impl Points {
    /// Checks an axis; the error is a problem for people.
    pub(super) fn new(values: &AxisValues) -> Result<Self, String> {
        let points = match values {
            AxisValues::IntRange { start, stop, step } => Self::int_range(*start, *stop, *step)?,
            AxisValues::FloatRange { start, stop, step } => {
                Self::float_range(finite(start)?, finite(stop)?, finite(step)?)?
            }
            AxisValues::Linspace { start, stop, count } => Self::linspace(finite(start)?, finite(stop)?, *count)?,
            AxisValues::List(values) => {
                let ty = list_type(values)?;
                Self { len: values.len() as u64, kind: PointsKind::List(list_column(values, ty)) }
            }
        };
        if points.len > AXIS_POINTS_MAX {
            return Err(format!("it has {} points; at most {AXIS_POINTS_MAX} are taken", points.len));
        }
        Ok(points)
    }

    fn int_range(start: i64, stop: i64, step: i64) -> Result<Self, String> {
        check_direction(&start, &stop, step > 0, step < 0)?;
        let distance = start.abs_diff(stop);
        Ok(Self { len: distance.div_ceil(step.unsigned_abs()), kind: PointsKind::Ints { start, step } })
    }

    fn float_range(start: f64, stop: f64, step: f64) -> Result<Self, String> {
        check_direction(&start, &stop, step > 0.0, step < 0.0)?;
        let value = |i: u64| start + i as f64 * step;
        if value(1) == start {
            return Err(format!("the step {step} is too small to change {start}"));
        }
        // Values never turn back, so the number of those before STOP can be searched for.
        let before = |i: u64| if step > 0.0 { value(i) < stop } else { value(i) > stop };
        if before(AXIS_POINTS_MAX) {
            return Err(format!("it has more than {AXIS_POINTS_MAX} points, which is the limit; take a larger step"));
        }
        let (mut inside, mut outside) = (0, AXIS_POINTS_MAX);
        while outside - inside > 1 {
            let middle = inside + (outside - inside) / 2;
            if before(middle) { inside = middle } else { outside = middle }
        }
        Ok(Self { len: outside, kind: PointsKind::Floats { start, step, last: None } })
    }

    fn linspace(start: f64, stop: f64, count: u64) -> Result<Self, String> {
        if count == 0 {
            return Err("it has no points; the count must be at least 1".into());
        }
        if count == 1 {
            return Ok(Self { len: 1, kind: PointsKind::Floats { start, step: 0.0, last: None } });
        }
        if !(stop - start).is_finite() {
            return Err(format!("the distance between {start} and {stop} is too large for a float"));
        }
        let step = (stop - start) / (count - 1) as f64;
        Ok(Self { len: count, kind: PointsKind::Floats { start, step, last: Some(stop) } })
    }

    pub(super) fn column_type(&self) -> ColumnType {
        match &self.kind {
            PointsKind::Ints { .. } | PointsKind::List(Column::Int(_)) => ColumnType::Int,
            PointsKind::Floats { .. } | PointsKind::List(Column::Float(_)) => ColumnType::Float,
            PointsKind::List(Column::Boolean(_)) => ColumnType::Boolean,
            PointsKind::List(Column::String(_) | Column::Mixed(_)) => ColumnType::String,
        }
    }
}

fn check_direction<T: PartialOrd + std::fmt::Display>(start: &T, stop: &T, up: bool, down: bool) -> Result<(), String> {
    if !up && !down {
        return Err("the step is 0; write another one, or START:STOP/COUNT".into());
    }
    if start == stop {
        return Err(format!("it has no points: it stops at {stop}, before its first; write {start} for one point"));
    }
    if up != (start < stop) {
        let (way, sign) = if up { ("up", "negative") } else { ("down", "positive") };
        return Err(format!(
            "it has no points: the step goes {way}, but {stop} does not lie there; write a {sign} step"
        ));
    }
    Ok(())
}

fn finite(scalar: &Scalar) -> Result<f64, String> {
    match scalar {
        Scalar::Float(x) if x.is_finite() => Ok(*x),
        other => Err(format!("{other:?} is not a finite float")),
    }
}
