// Package cruster stands in for the module's root package in the tests of
// package handler, which the root imports: types of the same names, so that
// error texts read the same.
package cruster

// Entity marks an entity type.
type Entity struct{}

// RPC marks a method of an entity, or a group.
type RPC struct{}

// Workflow marks a workflow.
type Workflow struct{}

// Activity marks a method of a workflow, or a group.
type Activity struct{}

// WorkflowContext is what a workflow function takes first.
type WorkflowContext struct{ Name string }
