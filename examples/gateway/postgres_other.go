//go:build !unix

package main

import "syscall"

func attributes(string) (*syscall.SysProcAttr, error) { return nil, nil }
