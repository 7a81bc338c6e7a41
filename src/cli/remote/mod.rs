//! Asking a gateway over the network, and believing nothing of what it answers: NFSv3 for the data, the
//! program of `xdr/integrity.x` for what is said to prove them.

mod address;
mod chain;
mod client;
pub(super) mod proof;
mod rpc;
mod vouch;
pub(super) mod xattr;

pub(super) use client::{ACCES, Client, IO};
pub(super) use rpc::ClientError;

use address::Address;

use super::Trouble;

/// A connection to the gateway at `address`, and the handle of the object there.
fn open(address: &Address) -> Result<(Client, Vec<u8>), Trouble> {
    let stream = address.connect();
    let stream =
        stream.map_err(|source| Trouble::Io { context: format!("cannot connect to {address}"), source })?;
    let found = Client::over(stream).and_then(|mut client| {
        let handle = client.find(&address.path)?;
        Ok((client, handle))
    });
    found.map_err(|error| asking(address, &error))
}

/// What keeps a command from its work.
fn asking(address: &Address, error: &ClientError) -> Trouble {
    Trouble::other(format!("{address}: {}: {error}", address.path))
}
