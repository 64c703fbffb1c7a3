//go:build !linux

package drivertest

import "syscall"

// killWithParent does nothing here. A server can be left behind when the tests are killed.
func killWithParent(*syscall.SysProcAttr) {}
