// Package handler turns the methods of a user's value into tables of handlers.
//
// All reflection on user types happens here, once, at registration.
// [ScanEntity] and [ScanWorkflow] walk a struct, its markers and the structs it
// embeds, and yield a [Table]: what the type is called, which of its methods
// can be dispatched, with which options, and how to run each of them. A type
// with faults yields one [RegistrationError] that lists all of them.
//
// # What is a handler
//
// An exported method whose first parameter is a context.Context, declared on
// the type itself or promoted from an embedded struct that carries a marker
// (a group). Every struct between the type and the declaring struct must carry
// one too: embedding anything else publishes nothing, so that a library's
// methods never become callable from the network by accident. What was left
// out is listed by [Table.Skipped], each with the reason.
//
// Methods without a leading context are ignored unless a tag names them. A
// leading context with any other wrong shape is a fault unless the method is
// tagged private. The shapes are
//
//	func (c *T) Name(ctx context.Context, in In) (Out, error)                 // Unary
//	func (c *T) Name(ctx context.Context, in In) error                        // ErrOnly
//	func (c *T) Name(ctx context.Context, in In) iter.Seq2[Item, error]       // Stream, entities only
//	func (w *T) Execute(wf *cruster.WorkflowContext, in In) (Out, error)      // or error alone
//
// # Markers
//
// A marker is a field of one of the types in [Markers], by custom named "_" and
// first in the struct (a zero-size last field makes the struct grow). Its tag
// under the key "cruster" is a comma-separated list: first the name of the type
// or method, then options. An RPC or Activity marker without a tag says that
// the struct is a group whose context methods are all published. When several
// structs on the way carry a tag for the same method, the shallowest wins; a
// method that overrides a group's keeps the group's tag if it has none itself.
//
// Options that were not given are told apart from given ones ([Opt]), because
// defaults come from the configuration later.
//
// # Which method
//
// Static code names a method by its expression, (*Counter).Increment. Its code
// pointer ([PointerOf]) is the key of [Table.ByPointer], the hot path.
// [Table.Resolve] is the slow path: it also takes the expressions of groups and
// of interfaces, and explains what it refuses. DESIGN.md lists what was
// verified about code pointers.
package handler
