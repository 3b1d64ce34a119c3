package replay

import (
	"context"
	"log/slog"
)

// Logger returns a logger with the execution's name that is silent while the
// code replays what it did before.
func (r *Run) Logger(h slog.Handler) *slog.Logger {
	return slog.New(quietHandler{h, r}).With("workflow", r.x.Type, "execution", r.x.ID)
}

// quietHandler drops records while a run replays.
type quietHandler struct {
	slog.Handler
	run *Run
}

func (h quietHandler) Enabled(ctx context.Context, l slog.Level) bool {
	return !h.run.Replaying() && h.Handler.Enabled(ctx, l)
}

func (h quietHandler) WithAttrs(as []slog.Attr) slog.Handler {
	return quietHandler{h.Handler.WithAttrs(as), h.run}
}

func (h quietHandler) WithGroup(name string) slog.Handler {
	return quietHandler{h.Handler.WithGroup(name), h.run}
}
