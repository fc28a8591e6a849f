package main

import (
	"os/exec"
	"syscall"
)

// apart gives a command a process group of its own, so that Ctrl-C on a terminal
// reaches us alone.
func apart(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }
