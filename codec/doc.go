// Package codec turns request, reply and step values into bytes and back, and guards that way against loss and abuse.
//
// Two codecs are built in: [Msgpack], the default, and [JSON]. Others are added through a [Registry], which finds a codec by the name
// stored beside each payload; [Wrap] puts compression or encryption around any of them.
//
// What both promise:
//
//   - Fields travel by name. Unknown fields are ignored and missing ones are zero, so fields can be added, removed and reordered.
//   - Nothing is lost silently. A number that the target cannot hold exactly is [ErrMismatch], naming the field; a type that holds what
//     cannot travel is [ErrUnsupported], found by [CheckType] at registration rather than by the first unlucky message.
//   - Input is not trusted. Every payload is walked once before it is decoded ([Check] for msgpack): lengths, depth and the number of
//     elements are bounded, and exactly one value must be there. What fails is [ErrMalformed].
//   - An empty payload is the zero value, so methods without request or reply need no bytes at all.
//   - Unmarshal overwrites its target; nothing of an earlier value shines through, and the result shares no memory with the input.
//
// # Fields
//
// Under msgpack a field's name is its `msgpack` tag, else its `json` tag, else its Go name; tag options come from the same tag. They are
// "omitempty", "omitzero" (both as in encoding/json) and "alias:NAME", an older name still understood when decoding. A tag "-" leaves
// the field out. Embedded structs without a name of their own are flattened. Two fields of one name are refused, also where Go itself
// would let the outer one hide the inner one, because the hidden value would be lost.
//
// # Types
//
// []byte and [N]byte travel as bin, [time.Time] as the msgpack timestamp (the instant with nanoseconds; it comes back in UTC), integers
// in their shortest form, maps with sorted keys. A type with methods of its own is encoded through the first pair it has both halves of:
// EncodeMsgpack/DecodeMsgpack, MarshalMsgpack/UnmarshalMsgpack, MarshalBinary/UnmarshalBinary, MarshalText/UnmarshalText and, only where
// a struct could not travel otherwise, MarshalJSON/UnmarshalJSON. Map keys prefer the text pair. A nil map or slice stays nil.
//
// A field of type any decodes loosely, the same way under both codecs: nil, bool, int64 (uint64 only above its range), float64, string,
// []any and map[string]any; msgpack adds []byte, [time.Time] and, for maps with other keys, map[any]any.
//
// # Identity
//
// [Digest] condenses a value into 128 bits that do not depend on field order, integer width, map order or fields added later; it is how
// "same key, other body" is told from a retry. [Describe] and [Diff] put values into error messages.
package codec
