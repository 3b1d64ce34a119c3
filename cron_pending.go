package cruster
import "context"
type cronJob struct{}
func (c *cronJob) loop(ctx context.Context) {}
