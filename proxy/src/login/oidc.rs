//! OpenID Connect: the code flow with PKCE. What is sent and read is here; who is let in is not.
//! Sources: OpenID Connect Core 1.0, Discovery 1.0; RFC 6749, 7636, 9207.

pub mod fetch;
pub mod provider;
pub mod token;
pub mod under_way;
