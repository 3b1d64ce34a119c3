package grpctransport_test

import (
	"context"
	"fmt"

	"github.com/cruster-go/cruster/transport"
	grpctransport "github.com/cruster-go/cruster/transport/grpc"
)

func ExampleNew() {
	ctx := context.Background()
	server, err := grpctransport.New(grpctransport.Options{
		Listen:  "127.0.0.1:0", // beyond loopback: set TLS too
		Secrets: []string{"read this from a file or the environment"},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer server.Close(ctx)
	err = server.Start(ctx, transport.Hello{Cluster: "shop", Address: server.Address(), Incarnation: 1}, echoHandler{})
	if err != nil {
		fmt.Println(err)
		return
	}

	client, err := grpctransport.New(grpctransport.Options{Secrets: []string{"read this from a file or the environment"}})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer client.Close(ctx)
	if err := client.Start(ctx, transport.Hello{Cluster: "shop"}, echoHandler{}); err != nil {
		fmt.Println(err)
		return
	}
	reply, err := client.Call(ctx, server.Address(), 1, []byte("hello"))
	fmt.Println(string(reply), err)
	// Output:
	// hello <nil>
}

func ExampleNew_open() {
	_, err := grpctransport.New(grpctransport.Options{Listen: "0.0.0.0:0", Advertise: "runner-1:7000"})
	fmt.Println(err)
	// Output:
	// grpc transport: listening at "0.0.0.0:0" without TLS, where other machines can connect and read along: set TLS, listen at 127.0.0.1, or set Insecure if the network is trusted
}
