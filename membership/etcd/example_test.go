package etcd_test

import (
	"log"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/cruster-go/cruster/membership/etcd"
)

// With a client of its own, in plain text.
func ExampleDial() {
	members, err := etcd.Dial([]string{"etcd-1:2379", "etcd-2:2379", "etcd-3:2379"}, &etcd.Options{Prefix: "/orders/"})
	if err != nil {
		log.Fatal(err)
	}
	defer members.Close()
}

// With the program's client, which brings TLS and a user.
func ExampleNew() {
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{"etcd-1:2379"}, Username: "orders", Password: "secret"})
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	members, err := etcd.New(client, nil)
	if err != nil {
		log.Fatal(err)
	}
	_ = members
}
