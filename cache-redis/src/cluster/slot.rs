//! Which of the 16,384 hash slots of a cluster a key is in, as the Redis Cluster specification says:
//! CRC-16/XMODEM of the key, or of what stands between its first `{` and the next `}` if that is anything.

pub(crate) const SLOTS: u16 = 16384;

/// The slot of a key.
pub(crate) fn slot(key: &str) -> u16 {
    crc16(hashed(key.as_bytes())) % SLOTS
}

fn hashed(key: &[u8]) -> &[u8] {
    let tag = key.iter().position(|byte| *byte == b'{').and_then(|open| {
        let rest = &key[open + 1..];
        rest.iter().position(|byte| *byte == b'}').map(|close| &rest[..close])
    });
    tag.filter(|tag| !tag.is_empty()).unwrap_or(key)
}

fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| (crc << 8) ^ TABLE[usize::from((crc >> 8) as u8 ^ byte)])
}

const TABLE: [u16; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let (mut crc, mut bit) = ((byte as u16) << 8, 0);
        while bit < 8 {
            crc = if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::{crc16, hashed, slot};

    #[test]
    fn the_specifications_test_vector() {
        assert_eq!(crc16(b"123456789"), 0x31c3);
        // As `CLUSTER KEYSLOT` answers.
        assert_eq!([slot(""), slot("foo"), slot("somekey")], [0, 12182, 11058]);
    }

    #[test]
    fn the_specifications_hash_tags() {
        let tag = |key: &'static str| std::str::from_utf8(hashed(key.as_bytes())).expect("text");
        assert_eq!(tag("{user1000}.following"), "user1000");
        assert_eq!(tag("foo{}{bar}"), "foo{}{bar}");
        assert_eq!(tag("foo{{bar}}zap"), "{bar");
        assert_eq!(tag("foo{bar}{zap}"), "bar");
        assert_eq!(tag("foo{bar"), "foo{bar");
        assert_eq!(slot("{user1000}.following"), slot("{user1000}.followers"));
    }
}
