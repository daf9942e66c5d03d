//! Owns the judgement: genuine, made for this side of this session, not open to its host, and what is pinned.
//!
//! A production policy is closed unless all of that holds; it cannot even be made without a pinned measurement, or with a verifier of
//! mock evidence. A development policy takes what it is told to take, and says what it let pass.

use std::collections::BTreeMap;

use crate::binding::Binding;
use crate::claims::{Claims, Measurement, Report, text};
use crate::evidence::{EVIDENCE_MAX, Error, Verifier};

/// What a peer must show.
#[derive(Debug)]
pub struct Policy {
    verifiers: Vec<Box<dyn Verifier>>,
    /// Values that each pinned register may have.
    pins: BTreeMap<u8, Vec<Vec<u8>>>,
    production: bool,
    tolerated: Vec<String>,
}

/// What a policy is to ask for.
#[derive(Debug, Default)]
pub struct Asks {
    verifiers: Vec<Box<dyn Verifier>>,
    pins: BTreeMap<u8, Vec<Vec<u8>>>,
    tolerated: Vec<String>,
}

impl Asks {
    /// Nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes evidence that this verifier finds genuine.
    #[must_use]
    pub fn verifier(mut self, verifier: impl Verifier + 'static) -> Self {
        self.verifiers.push(Box::new(verifier));
        self
    }

    /// That register must hold that value, or another that is pinned for it.
    #[must_use]
    pub fn pin(mut self, pinned: Measurement) -> Self {
        self.pins.entry(pinned.register).or_default().push(pinned.value);
        self
    }

    /// A shortcoming of the platform that is known and borne, in its maker's words.
    #[must_use]
    pub fn tolerate(mut self, shortcoming: &str) -> Self {
        self.tolerated.push(shortcoming.to_owned());
        self
    }

    /// For what must be kept from everybody.
    ///
    /// # Errors
    /// [`Error::NoPins`], [`Error::MockInProduction`].
    pub fn production(self) -> Result<Policy, Error> {
        if self.pins.is_empty() {
            return Err(Error::NoPins);
        }
        if self.verifiers.iter().any(|verifier| verifier.format().is_mock) {
            return Err(Error::MockInProduction);
        }
        Ok(self.policy(true))
    }

    /// For trying out: mock evidence and debug modes pass.
    #[must_use]
    pub fn development(self) -> Policy {
        self.policy(false)
    }

    fn policy(self, production: bool) -> Policy {
        let Self { verifiers, pins, tolerated } = self;
        Policy { verifiers, pins, production, tolerated }
    }
}

impl Policy {
    /// The formats that it can judge: what a peer is told. A peer that has none of them is refused.
    pub fn formats(&self) -> impl Iterator<Item = u16> + '_ {
        self.verifiers.iter().map(|verifier| verifier.format().code)
    }

    /// Whether it is closed to mocks and debug modes.
    #[must_use]
    pub const fn is_production(&self) -> bool {
        self.production
    }

    /// Judges what a peer showed for `binding`, at that time (seconds since 1970).
    ///
    /// # Errors
    /// Why the session must end.
    pub fn judge(&self, statement: &[u8], binding: &Binding, unix_seconds: u64) -> Result<Report, Error> {
        if statement.len() > EVIDENCE_MAX {
            return Err(Error::Malformed("too long"));
        }
        let (code, evidence) = statement.split_first_chunk().ok_or(Error::Malformed("too short"))?;
        let code = u16::from_be_bytes(*code);
        let verifier = self.verifiers.iter().find(|verifier| verifier.format().code == code);
        let verifier = verifier.ok_or(Error::UnknownFormat(code))?;
        let Claims { binding: shown, measurements, debug, shortcomings } = verifier.verify(evidence, unix_seconds)?;
        if !binding.is(&shown) {
            return Err(Error::NotBound);
        }
        if debug && self.production {
            return Err(Error::Debug);
        }
        if let Some(grave) = shortcomings.iter().find(|shortcoming| !self.bears(shortcoming)) {
            return Err(Error::Shortcoming(grave.clone()));
        }
        for (register, values) in &self.pins {
            let shown = measurements.iter().find(|measured| measured.register == *register);
            if !shown.is_some_and(|measured| values.contains(&measured.value)) {
                let pinned = values.iter().map(|value| text(value)).collect();
                let shown = shown.map_or(String::new(), Measurement::text);
                return Err(Error::Measurement { register: *register, pinned, shown });
            }
        }
        Ok(Report { format: verifier.format().name, measurements, shortcomings })
    }

    fn bears(&self, shortcoming: &String) -> bool {
        self.tolerated.contains(shortcoming)
    }
}
