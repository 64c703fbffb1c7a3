package drivertest

import "syscall"

// killWithParent has the kernel kill a process when this one ends, however it does.
func killWithParent(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGKILL }
