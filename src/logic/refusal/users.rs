//! Who uses a network that is to be removed.

use crate::model::names::{ReservationId, ServiceName};

/// Who uses a network, and what to do about it.
pub(super) fn users(containers: &[String], reservations: &[ReservationId], services: &[ServiceName]) -> String {
    fn list<T: AsRef<str>>(names: &[T]) -> String {
        names.iter().map(AsRef::as_ref).collect::<Vec<_>>().join(", ")
    }
    let mut users = Vec::new();
    let mut remedies = Vec::new();
    if !containers.is_empty() {
        users.push(list(containers));
        remedies.push("disconnect");
    }
    if !reservations.is_empty() {
        users.push(format!("the reservations {}", list(reservations)));
        remedies.push("release");
    }
    if !services.is_empty() {
        users.push(format!("the services {}", list(services)));
        remedies.push("remove");
    }
    let commands = [(reservations.is_empty(), "`netd reservation rm`"), (services.is_empty(), "`netd service rm`")];
    let commands: Vec<&str> = commands.iter().filter(|(none, _)| !none).map(|(_, command)| *command).collect();
    let how = if commands.is_empty() { String::new() } else { format!(" ({})", commands.join(", ")) };
    format!("{}: {} them first{how}", users.join(" and "), remedies.join(" and "))
}
