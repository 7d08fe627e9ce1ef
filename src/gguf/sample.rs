//! A list of keys and tensors in, the bytes of a GGUF file out: the files that this folder's tests read.

/// A file under construction. Starts empty, with version 3.
#[derive(Clone)]
pub(crate) struct Sample {
    version: u32,
    keys: u64,
    metadata: Vec<u8>,
    tensors: Vec<Record>,
}

#[derive(Clone)]
pub(crate) struct Record {
    pub name: String,
    pub dims: Vec<u64>,
    pub kind: u32,
    pub offset: u64,
    pub data: Vec<u8>,
}

impl Default for Sample {
    fn default() -> Sample {
        Sample { version: 3, keys: 0, metadata: Vec::new(), tensors: Vec::new() }
    }
}

impl Sample {
    pub(crate) fn version(self, version: u32) -> Sample {
        Sample { version, ..self }
    }

    /// A key with its value given as type number and raw bytes.
    pub(crate) fn raw(mut self, key: &str, kind: u32, value: &[u8]) -> Sample {
        self.keys += 1;
        self.metadata.extend(packed(key.as_bytes()));
        self.metadata.extend(kind.to_le_bytes());
        self.metadata.extend(value);
        self
    }

    pub(crate) fn u32(self, key: &str, value: u32) -> Sample {
        self.raw(key, 4, &value.to_le_bytes())
    }

    pub(crate) fn i32(self, key: &str, value: i32) -> Sample {
        self.raw(key, 5, &value.to_le_bytes())
    }

    pub(crate) fn f32(self, key: &str, value: f32) -> Sample {
        self.raw(key, 6, &value.to_le_bytes())
    }

    pub(crate) fn bool(self, key: &str, value: bool) -> Sample {
        self.raw(key, 7, &[u8::from(value)])
    }

    pub(crate) fn u16(self, key: &str, value: u16) -> Sample {
        self.raw(key, 2, &value.to_le_bytes())
    }

    pub(crate) fn text(self, key: &str, value: &str) -> Sample {
        self.raw(key, 8, &packed(value.as_bytes()))
    }

    pub(crate) fn texts(self, key: &str, values: &[&str]) -> Sample {
        let items: Vec<u8> = values.iter().flat_map(|v| packed(v.as_bytes())).collect();
        self.array(key, 8, values.len() as u64, &items)
    }

    pub(crate) fn i32s(self, key: &str, values: &[i32]) -> Sample {
        let items: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.array(key, 5, values.len() as u64, &items)
    }

    pub(crate) fn f32s(self, key: &str, values: &[f32]) -> Sample {
        let items: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.array(key, 6, values.len() as u64, &items)
    }

    pub(crate) fn array(self, key: &str, element: u32, len: u64, items: &[u8]) -> Sample {
        let value = [&element.to_le_bytes()[..], &len.to_le_bytes(), items].concat();
        self.raw(key, 9, &value)
    }

    /// A tensor of f32 zeros, placed after the others.
    pub(crate) fn tensor(self, name: &str, dims: &[u64]) -> Sample {
        let bytes = dims.iter().product::<u64>() as usize * 4;
        let offset = self.tensors.last().map_or(0, |t| (t.offset + t.data.len() as u64).next_multiple_of(32));
        self.record(Record { name: name.into(), dims: dims.into(), kind: 0, offset, data: vec![0; bytes] })
    }

    /// A tensor with a record of one's own making.
    pub(crate) fn record(mut self, record: Record) -> Sample {
        self.tensors.push(record);
        self
    }

    /// The file, its data aligned to 32 bytes.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut out = b"GGUF".to_vec();
        out.extend(self.version.to_le_bytes());
        out.extend((self.tensors.len() as u64).to_le_bytes());
        out.extend(self.keys.to_le_bytes());
        out.extend(&self.metadata);
        for t in &self.tensors {
            out.extend(packed(t.name.as_bytes()));
            out.extend((t.dims.len() as u32).to_le_bytes());
            out.extend(t.dims.iter().flat_map(|d| d.to_le_bytes()));
            out.extend(t.kind.to_le_bytes());
            out.extend(t.offset.to_le_bytes());
        }
        for t in &self.tensors {
            out.resize(out.len().next_multiple_of(32), 0);
            out.extend(&t.data);
        }
        out
    }
}

fn packed(text: &[u8]) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes()[..], text].concat()
}
