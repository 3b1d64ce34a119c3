package transport_test

import (
	"context"
	"fmt"

	"github.com/cruster-go/cruster/transport"
)

// greeter answers every request, and streams words.
type greeter struct{ name string }

func (g greeter) Call(_ context.Context, from transport.Hello, _ transport.Op, body []byte) ([]byte, error) {
	return fmt.Appendf(nil, "%s of %s, from %s", body, from.Address, g.name), nil
}

func (g greeter) Stream(_ context.Context, _ transport.Hello, _ transport.Op, _ []byte, send func([]byte) error) error {
	for _, word := range []string{"one", "two", "three"} {
		if err := send([]byte(word)); err != nil {
			return err
		}
	}
	return nil
}

func (g greeter) Connected(transport.Hello) {}

func ExampleNetwork() {
	ctx := context.Background()
	network := transport.NewNetwork(1)
	start := func(name string) transport.Transport {
		t := network.Transport(name, transport.Options{})
		if err := t.Start(ctx, transport.Hello{Cluster: "demo", Address: name, Incarnation: 1}, greeter{name}); err != nil {
			panic(err)
		}
		return t
	}
	a, b := start("a"), start("b")
	defer a.Close(ctx)
	defer b.Close(ctx)

	reply, err := a.Call(ctx, "b", 1, []byte("greetings"))
	fmt.Println(string(reply), err)
	for word, err := range a.Stream(ctx, "b", 1, nil) {
		fmt.Println(string(word), err)
	}
	// Output:
	// greetings of a, from b <nil>
	// one <nil>
	// two <nil>
	// three <nil>
}

func ExampleNetwork_Kill() {
	ctx := context.Background()
	network := transport.NewNetwork(1)
	a := network.Transport("a", transport.Options{})
	if err := a.Start(ctx, transport.Hello{Cluster: "demo", Address: "a"}, greeter{"a"}); err != nil {
		panic(err)
	}
	client := network.Client("shop", transport.Options{})
	if err := client.Start(ctx, transport.Hello{Cluster: "demo"}, greeter{}); err != nil {
		panic(err)
	}
	defer a.Close(ctx)
	defer client.Close(ctx)

	network.Kill("a")
	_, err := client.Call(ctx, "a", 1, nil)
	fmt.Println(err)
	// Output:
	// peer a: dial a: connection refused: nobody listens there
}
