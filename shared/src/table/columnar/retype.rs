//! Text and bytes that were decoded as views into a file's pages, as the types that the file gives them.

use arrow_array::cast::AsArray;
use arrow_array::{
    Array, ArrayRef, BinaryArray, FixedSizeListArray, LargeBinaryArray, LargeListArray, LargeStringArray, ListArray,
    MapArray, StringArray, StructArray,
};
use arrow_schema::{ArrowError, DataType};
use std::sync::Arc;

/// The array with its views, also nested ones, as `ty` has them.
pub(super) fn retyped(array: &ArrayRef, ty: &DataType) -> Result<ArrayRef, ArrowError> {
    if array.data_type() == ty {
        return Ok(Arc::clone(array));
    }
    Ok(match (array.data_type(), ty) {
        (DataType::Utf8View, DataType::Utf8) => Arc::new(array.as_string_view().iter().collect::<StringArray>()),
        (DataType::Utf8View, DataType::LargeUtf8) => {
            Arc::new(array.as_string_view().iter().collect::<LargeStringArray>())
        }
        (DataType::BinaryView, DataType::Binary) => Arc::new(array.as_binary_view().iter().collect::<BinaryArray>()),
        (DataType::BinaryView, DataType::LargeBinary) => {
            Arc::new(array.as_binary_view().iter().collect::<LargeBinaryArray>())
        }
        (DataType::List(_), DataType::List(field)) => {
            let list = array.as_list::<i32>();
            let values = retyped(list.values(), field.data_type())?;
            Arc::new(ListArray::try_new(Arc::clone(field), list.offsets().clone(), values, list.nulls().cloned())?)
        }
        (DataType::LargeList(_), DataType::LargeList(field)) => {
            let list = array.as_list::<i64>();
            let values = retyped(list.values(), field.data_type())?;
            Arc::new(LargeListArray::try_new(Arc::clone(field), list.offsets().clone(), values, list.nulls().cloned())?)
        }
        (DataType::FixedSizeList(..), DataType::FixedSizeList(field, len)) => {
            let list = array.as_fixed_size_list();
            let values = retyped(list.values(), field.data_type())?;
            Arc::new(FixedSizeListArray::try_new(Arc::clone(field), *len, values, list.nulls().cloned())?)
        }
        (DataType::Struct(_), DataType::Struct(fields)) => {
            let columns = array.as_struct().columns().iter().zip(fields);
            let columns = columns.map(|(column, field)| retyped(column, field.data_type()));
            let columns = columns.collect::<Result<Vec<_>, _>>()?;
            Arc::new(StructArray::try_new_with_length(fields.clone(), columns, array.nulls().cloned(), array.len())?)
        }
        (DataType::Map(..), DataType::Map(field, sorted)) => {
            let map = array.as_map();
            let entries: ArrayRef = Arc::new(map.entries().clone());
            let entries = retyped(&entries, field.data_type())?.as_struct().clone();
            let offsets = map.offsets().clone();
            Arc::new(MapArray::try_new(Arc::clone(field), offsets, entries, map.nulls().cloned(), *sorted)?)
        }
        (have, want) => {
            return Err(ArrowError::CastError(format!("{have} was decoded where the file has {want}")));
        }
    })
}
