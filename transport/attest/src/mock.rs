//! Owns evidence that anybody can make: for tests, demonstrations and machines without such a platform. It says that it is a mock
//! wherever it appears, and no production policy takes it.

use crate::binding::{BINDING_LEN, Binding};
use crate::claims::{Claims, Measurement};
use crate::evidence::{Attester, Error, Format, Verifier};

/// The format.
pub const FORMAT: Format = Format { code: 1, name: "mock", is_mock: true };

/// Attests and verifies. Evidence is the binding, then for each measurement its register, its length and its value.
#[derive(Clone, Debug, Default)]
pub struct Mock {
    measurements: Vec<Measurement>,
}

impl Mock {
    /// A platform that measured this.
    #[must_use]
    pub const fn measured(measurements: Vec<Measurement>) -> Self {
        Self { measurements }
    }
}

impl Attester for Mock {
    fn format(&self) -> Format {
        FORMAT
    }

    fn evidence(&self, binding: &Binding) -> Result<Vec<u8>, Error> {
        let mut evidence = binding.bytes().to_vec();
        for Measurement { register, value } in &self.measurements {
            let len =
                u8::try_from(value.len()).map_err(|_| Error::Unavailable("a value of over 255 bytes".to_owned()))?;
            evidence.extend([*register, len]);
            evidence.extend(value);
        }
        Ok(evidence)
    }
}

impl Verifier for Mock {
    fn format(&self) -> Format {
        FORMAT
    }

    fn verify(&self, evidence: &[u8], _: u64) -> Result<Claims, Error> {
        let truncated = Error::Malformed("a mock that ends early");
        let (binding, mut rest) = evidence.split_first_chunk::<BINDING_LEN>().ok_or(truncated.clone())?;
        let mut measurements = Vec::new();
        while let [register, len, following @ ..] = rest {
            let (value, after) = following.split_at_checked(usize::from(*len)).ok_or(truncated.clone())?;
            measurements.push(Measurement { register: *register, value: value.to_vec() });
            rest = after;
        }
        if rest.is_empty() {
            Ok(Claims { binding: *binding, measurements, debug: true, shortcomings: Vec::new() })
        } else {
            Err(truncated)
        }
    }
}
