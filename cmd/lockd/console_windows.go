package main

import "golang.org/x/sys/windows"

// interpretEscapes has the console take escape sequences for what they mean.
func interpretEscapes() {
	var mode uint32
	console := windows.Handle(stdout.fd())
	if windows.GetConsoleMode(console, &mode) == nil {
		windows.SetConsoleMode(console, mode|windows.ENABLE_VIRTUAL_TERMINAL_PROCESSING)
	}
}
