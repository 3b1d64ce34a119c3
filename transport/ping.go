package transport

import "context"

// PingOp is answered by every runner at once, without a body.
const PingOp Op = 14

// Ping asks the runner at an address whether it is alive. It is the second
// opinion that package membership/gossip wants:
//
//	Confirm: func(ctx context.Context, m membership.Member) bool {
//		return transport.Ping(ctx, link, m.Address) != nil
//	}
func Ping(ctx context.Context, t Transport, to string) error {
	_, err := t.Call(ctx, to, PingOp, nil)
	return err
}
