//! The shapes against the library, and against bytes that are no requests.

use bytes::Bytes as Buffer;
use kafka_protocol::messages::RequestKind;
use proptest::prelude::*;

use super::*;
use crate::log::api::SERVED;

/// Numbers that look random and are the same in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % bound
    }
}

/// Writes a random request of a shape.
struct Writer<'a> {
    out: Vec<u8>,
    version: i16,
    flexible: bool,
    random: &'a mut Random,
}

impl Writer<'_> {
    fn fields(&mut self, fields: &[Field]) {
        for field in fields {
            if (field.from..=field.to).contains(&self.version) {
                self.value(&field.kind);
            }
        }
        if self.flexible {
            self.out.push(0);
        }
    }

    fn value(&mut self, kind: &Kind) {
        match kind {
            Fixed(size) => (0..*size).for_each(|_| self.out.push(self.random.below(2) as u8)),
            Text => self.length(2, 4),
            Bytes => self.length(4, 4),
            Plain(_) | Structs(_) => {
                let count = self.random.below(3);
                self.number(4, count);
                for _ in 0..count {
                    match kind {
                        Plain(kind) => self.value(kind),
                        Structs(fields) => self.fields(fields),
                        _ => {}
                    }
                }
            }
        }
    }

    fn length(&mut self, size: usize, most: usize) {
        let length = self.random.below(most + 1);
        self.number(size, length);
        self.out.extend(std::iter::repeat_n(b'x', length));
    }

    fn number(&mut self, size: usize, value: usize) {
        if self.flexible {
            self.out.push(value as u8 + 1);
        } else {
            self.out.extend_from_slice(&(value as u32).to_be_bytes()[4 - size..]);
        }
    }
}

/// What a shape describes is what the library reads, to the last byte, for every version that is served.
#[test]
fn shapes_are_those_of_the_library() {
    let mut random = Random(7);
    for &(key, least, most) in SERVED {
        for version in least..=most {
            for _ in 0..50 {
                let flexible = key.request_header_version(version) >= 2;
                let mut writer = Writer { out: Vec::new(), version, flexible, random: &mut random };
                writer.fields(shape(key).unwrap());
                let bytes = writer.out;
                assert_eq!(walk(key, version, &bytes), Ok(&[][..]), "{key:?} {version}");
                let mut rest = Buffer::from(bytes.clone());
                RequestKind::decode(key, &mut rest, version)
                    .unwrap_or_else(|it| panic!("{key:?} {version} {bytes:?}: {it}"));
                assert!(rest.is_empty(), "{key:?} {version}: {} bytes left of {bytes:?}", rest.len());
            }
        }
    }
}

#[test]
fn an_array_longer_than_its_request_is_refused() {
    let plain = [&[0xff, 0xff][..], &[0, 1], &[0; 4], &0x7fff_ffff_i32.to_be_bytes()].concat();
    assert_eq!(walk(ApiKey::Produce, 3, &plain), Err(Misshapen));
    let flexible = [0, 0, 1, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x0f];
    assert_eq!(walk(ApiKey::Produce, 9, &flexible), Err(Misshapen));
}

proptest! {
    #[test]
    fn any_bytes_end_without_a_panic(
        which in 0..SERVED.len(), version in 0..14_i16, bytes in prop::collection::vec(any::<u8>(), 0..200)
    ) {
        let _ = walk(SERVED[which].0, version, &bytes);
    }
}
