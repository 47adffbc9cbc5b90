//! The firewall table: its structure, and how elements stand in it.
