//! A connection to llama.cpp's RPC server → its version and the number of its devices, before llama.cpp itself
//! connects. Messages as in ggml-rpc.cpp: command 1, length 8, request → length 8, response; little-endian.

use std::io::{self, Read, Write};
use std::net::TcpStream;

/// The version of the protocol that the llama.cpp in this program speaks (ggml-rpc.h).
pub(super) const VERSION: (u8, u8, u8) = (7, 0, 0);

const HELLO: u8 = 14;
const DEVICE_COUNT: u8 = 15;
/// Bytes of what the sides of a connection tell each other about special networks: none.
const CAPABILITIES: usize = 24;

/// What a server says of itself.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Devices(u32),
    /// It speaks another version.
    Version(u8, u8, u8),
}

pub(super) fn ask(stream: &mut TcpStream) -> io::Result<Answer> {
    let hello: [u8; 4 + CAPABILITIES] = call(stream, HELLO, &[0; CAPABILITIES])?;
    let [major, minor, patch, ..] = hello;
    if major != VERSION.0 || minor > VERSION.1 {
        return Ok(Answer::Version(major, minor, patch));
    }
    Ok(Answer::Devices(u32::from_le_bytes(call(stream, DEVICE_COUNT, &[])?)))
}

fn call<const N: usize>(stream: &mut TcpStream, command: u8, request: &[u8]) -> io::Result<[u8; N]> {
    stream.write_all(&[&[command][..], &(request.len() as u64).to_le_bytes(), request].concat())?;
    let mut length = [0; 8];
    stream.read_exact(&mut length)?;
    if u64::from_le_bytes(length) != N as u64 {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut response = [0; N];
    stream.read_exact(&mut response)?;
    Ok(response)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    /// What a server says to whom `answer` is sent at once.
    fn asked(answer: Vec<u8>) -> io::Result<Answer> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(&answer).unwrap();
            let _ = stream.read_to_end(&mut Vec::new()); // until the client has read it
        });
        let answer = ask(&mut TcpStream::connect(address).unwrap());
        server.join().unwrap();
        answer
    }

    fn hello(version: [u8; 3]) -> Vec<u8> {
        [&28u64.to_le_bytes()[..], &version, &[0; 25]].concat()
    }

    #[test]
    fn a_server_tells_its_version_and_devices() {
        let count = [&4u64.to_le_bytes()[..], &2u32.to_le_bytes()].concat();
        assert_eq!(asked([hello([7, 0, 3]), count].concat()).unwrap(), Answer::Devices(2));
        assert_eq!(asked(hello([7, 1, 0])).unwrap(), Answer::Version(7, 1, 0));
        assert_eq!(asked(hello([6, 0, 0])).unwrap(), Answer::Version(6, 0, 0));
        assert!(asked(b"HTTP/1.1 400 Bad Request\r\n".to_vec()).is_err());
    }
}
