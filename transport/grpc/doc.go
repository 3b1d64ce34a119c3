// Package grpctransport carries requests between runners over gRPC.
//
//	t, err := grpctransport.New(grpctransport.Options{
//		Listen:    ":7000",
//		Advertise: "runner-1.internal:7000",
//		TLS:       config, // certificates, RootCAs, ClientCAs, ClientAuth
//	})
//
// There is one long-lived stream for each pair of runners, on which both ask
// and answer; see package transport. A peer is let in when TLS has verified
// its certificate, or when it proves that it knows a shared secret, or both,
// as [Options] say; then it must be of the same cluster and speak a common
// version of the protocol. All this happens before any handler sees a byte.
// Without TLS the transport keeps to loopback addresses.
//
// The server also answers the gRPC health protocol, for the service
// cruster.transport.v1.Peer and for the server as a whole.
package grpctransport
