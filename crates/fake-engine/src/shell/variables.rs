//! Owns a shell's variables, in the order they came: `env` shows them so.

#[derive(Clone, Debug)]
pub(crate) struct Variable {
    pub(crate) value: String,
    pub(crate) exported: bool,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Variables(Vec<(String, Variable)>);

impl Variables {
    pub(crate) fn get(&self, name: &str) -> Option<&Variable> {
        self.0
            .iter()
            .find(|(other, _)| other == name)
            .map(|(_, variable)| variable)
    }

    /// Sets a variable where it stands, or adds it at the end.
    pub(crate) fn insert(&mut self, name: String, variable: Variable) {
        match self.0.iter_mut().find(|(other, _)| *other == name) {
            Some((_, old)) => *old = variable,
            None => self.0.push((name, variable)),
        }
    }

    pub(crate) fn remove(&mut self, name: &str) {
        self.0.retain(|(other, _)| other != name);
    }

    /// `NAME=VALUE` of what is exported.
    pub(crate) fn exported(&self) -> impl Iterator<Item = String> + '_ {
        self.0
            .iter()
            .filter(|(_, variable)| variable.exported)
            .map(|(name, variable)| format!("{name}={}", variable.value))
    }
}
