//go:build !linux

package main

import "context"

// watchStdout is for Linux, where walq runs.
func watchStdout(context.CancelCauseFunc) {}
