// Package postgres is the membership of runners that share a PostgreSQL
// database, with nothing else to run: it is [stored] over that database.
//
// A service with PostgreSQL storage has it by default; this package is for a
// program that says so, or that hands a logger over.
package postgres

import (
	"fmt"

	"github.com/cruster-go/cruster/membership/stored"
	"github.com/cruster-go/cruster/storage"
)

// Options are what [New] can be told.
type Options = stored.Options

// New returns a backend over the store that the service itself uses, opened by
// package storage/postgres. nil options mean the defaults.
func New(store storage.Store, opts *Options) (*stored.Backend, error) {
	if store == nil {
		return nil, fmt.Errorf("membership: no store: pass the one that the service uses")
	}
	if info := store.Info(); !info.Shared || info.Name != "postgres" {
		return nil, fmt.Errorf("membership: this is a %q store: open it with package storage/postgres", info.Name)
	}
	return stored.New(store, opts), nil
}
