// Package crustertype holds the small types that every layer of cruster shares:
// addresses, identities, errors, and the records that storage keeps.
//
// It has no behaviour beyond validation and encoding, and imports only the
// standard library. Users meet most of these types through aliases in package
// cruster; authors of storage, membership and transport backends use them
// directly.
package crustertype
