package main

import (
	"testing"

	"github.com/cruster-go/cruster/internal/testetcd"
)

// etcdServer is an etcd of one.
type etcdServer struct{ *testetcd.Server }

func newEtcd(t *testing.T) *etcdServer { return &etcdServer{testetcd.Start(t)} }
