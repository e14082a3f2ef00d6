//! What a changed field of the desired state costs: rows that `apply` goes by.

/// The effect of a change to one field.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Effect {
    /// Takes effect in place; nothing is interrupted (F-23).
    Live,
    /// Closes the one BGP session it belongs to, which then comes up again.
    ResetsSession,
    /// Takes the one attachment down and sets it up again, with the sessions on it.
    RebuildsAttachment,
}

/// One field of a configuration of type `T`.
pub struct Field<T> {
    pub name: &'static str,
    pub effect: Effect,
    pub same: fn(&T, &T) -> bool,
}

impl<T> std::fmt::Debug for Field<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {:?}", self.name, self.effect)
    }
}

/// The strongest effect of what differs between two values; `None` when nothing does.
pub fn effect<T>(fields: &[Field<T>], old: &T, new: &T) -> Option<Effect> {
    fields.iter().filter(|field| !(field.same)(old, new)).map(|field| field.effect).max()
}
