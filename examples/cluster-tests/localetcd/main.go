// Command localetcd is an etcd of one on the loopback interface, for machines
// that have none installed. run.sh starts it. Do not use it for anything that
// matters.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"net/url"
	"os"
	"os/signal"
	"syscall"

	"go.etcd.io/etcd/server/v3/embed"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:2379", "host:port for clients")
	peer := flag.String("peer", "127.0.0.1:2380", "host:port for other servers, of which there are none")
	dir := flag.String("dir", "", "folder for the data, which is kept")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	if err := run(ctx, *listen, *peer, *dir); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, listen, peer, dir string) error {
	if dir == "" {
		return fmt.Errorf("-dir is missing: name a folder for the data")
	}
	c := embed.NewConfig()
	c.Dir, c.LogLevel = dir, "warn"
	c.UnsafeNoFsync = true // a crash of the machine may lose data, one of the process does not
	client, other := url.URL{Scheme: "http", Host: listen}, url.URL{Scheme: "http", Host: peer}
	c.ListenClientUrls, c.AdvertiseClientUrls = []url.URL{client}, []url.URL{client}
	c.ListenPeerUrls, c.AdvertisePeerUrls = []url.URL{other}, []url.URL{other}
	c.InitialCluster = c.InitialClusterFromName(c.Name)
	e, err := embed.StartEtcd(c)
	if err != nil {
		return fmt.Errorf("start etcd: %w", err)
	}
	defer e.Close()
	select {
	case <-e.Server.ReadyNotify():
		fmt.Println("etcd serves at", listen)
	case <-ctx.Done():
		return nil
	case err := <-e.Err():
		return err
	}
	select {
	case <-ctx.Done():
		return nil
	case err := <-e.Err():
		return err
	}
}
