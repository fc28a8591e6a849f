//go:build !linux

package main

import "os"

// terminal is for Linux, where walq runs.
func terminal(*os.File) bool { return false }
