//! Output as Arrow IPC. A result is a stream of encapsulated messages, the schema first, then a record batch for each
//! block of rows; whoever writes a file makes the file format of them.

use super::parquet::Written;
use arrow_array::RecordBatch;
use arrow_buffer::Buffer;
use arrow_ipc::reader::StreamDecoder;
use arrow_ipc::writer::{FileWriter, StreamWriter};
use arrow_schema::{ArrowError, SchemaRef};
use std::io;

/// What a stream ends with.
const END: [u8; 8] = [0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0];

/// Makes messages of blocks.
pub(super) struct IpcBatches {
    writer: StreamWriter<Vec<u8>>,
}

impl IpcBatches {
    pub(super) fn new(schema: &SchemaRef) -> Result<Self, ArrowError> {
        let mut writer = StreamWriter::try_new(Vec::new(), schema)?;
        // The schema is the header's.
        writer.get_mut().clear();
        Ok(Self { writer })
    }

    /// What the output begins with: the message of the schema.
    pub(super) fn header(schema: &SchemaRef) -> Result<Vec<u8>, ArrowError> {
        let mut writer = StreamWriter::try_new(Vec::new(), schema)?;
        Ok(std::mem::take(writer.get_mut()))
    }

    /// Adds the rows of a block.
    pub(super) fn write(&mut self, batch: &RecordBatch, out: &mut Vec<u8>) -> Result<(), ArrowError> {
        if batch.num_rows() > 0 {
            self.writer.write(batch)?;
            out.append(self.writer.get_mut());
        }
        Ok(())
    }
}

/// Makes a file of the messages of a result.
#[derive(Default)]
pub struct IpcJoiner {
    decoder: StreamDecoder,
    file: Option<FileWriter<Written>>,
    written: Written,
}

impl IpcJoiner {
    /// Takes the next bytes of a result, in pieces of any size; gives the next bytes of the file.
    ///
    /// # Errors
    /// Where they are no such messages.
    pub fn push(&mut self, bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut bytes = Buffer::from(bytes);
        while !bytes.is_empty() {
            let batch = self.decoder.decode(&mut bytes).map_err(broken)?;
            self.begin()?;
            if let (Some(batch), Some(file)) = (batch, &mut self.file) {
                file.write(&batch).map_err(broken)?;
            }
        }
        Ok(self.written.take())
    }

    /// Begins the file once its schema is known.
    fn begin(&mut self) -> io::Result<()> {
        if let (None, Some(schema)) = (&self.file, self.decoder.schema()) {
            self.file = Some(FileWriter::try_new(self.written.clone(), &schema).map_err(broken)?);
        }
        Ok(())
    }

    /// The end of the result; gives the rest of the file.
    ///
    /// # Errors
    /// Where the result is not whole.
    pub fn finish(mut self) -> io::Result<Vec<u8>> {
        // The mark also ends a schema that no batch follows.
        let mut last = self.push(&END)?;
        self.decoder.finish().map_err(broken)?;
        let cut_off = || io::Error::new(io::ErrorKind::UnexpectedEof, "the result is cut off");
        self.file.take().ok_or_else(cut_off)?.finish().map_err(broken)?;
        last.append(&mut self.written.take());
        Ok(last)
    }
}

fn broken(error: ArrowError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error.to_string())
}
