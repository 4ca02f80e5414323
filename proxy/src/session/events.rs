//! Sessions and refusals as Events of a cluster: what is told (`note`, pure), how much of it (`book`,
//! pure), and telling it (`teller`).

pub mod book;
pub mod note;
pub mod teller;
