package replay

import (
	"time"

	"github.com/cruster-go/cruster/codec"
	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/internal/invoke"
	"github.com/cruster-go/cruster/scheduler"
)

// Definition is a registered workflow. It is not modified after Register.
type Definition struct {
	Name    string
	Group   string        // shard group; default "default"
	Timeout time.Duration // of an execution, from its start; 0: none
	Handle  any           // whatever the registrar wants to find again

	// Execute runs the workflow's code over an input that c encoded, and returns
	// its result encoded by the engine's codec. An error that wraps ErrBadInput
	// says that the code could not begin.
	Execute func(r *Run, c codec.Codec, input []byte) ([]byte, error)
}

// ErrBadInput reports an input that the workflow's code cannot read. The
// execution is then put aside for a person, since trying again cannot help.
var ErrBadInput = crustertype.Errorf(crustertype.CodeEncoding, "the workflow cannot read its input")

// Call is one step as workflow code requests it.
type Call struct {
	Kind crustertype.StepKind
	Name string
	In   any // arguments; nil: none

	// Fn makes one attempt. args is In, encoded: whatever Fn decodes belongs to
	// it. An outcome that is a failure is final; an error is an attempt's.
	Fn func(ctx *invoke.Context, args []byte) (crustertype.Outcome, error)

	Retries int              // attempts after the first that ends in an error of the user
	Backoff scheduler.Policy // between them
	Timeout time.Duration    // of one attempt; 0: none
}
