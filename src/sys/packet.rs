//! Packet sockets (packet(7)).
