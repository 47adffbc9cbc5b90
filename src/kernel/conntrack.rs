//! Published ports held by bound sockets.
