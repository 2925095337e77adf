package main

import (
	"cmp"
	"debug/buildinfo"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// A module is a part of the program that others have written: what stands in
// the program itself, which is built from what go.mod says, less what its
// packages do not need.
type module struct {
	path, version, sum string
	license            string // its name in the list of SPDX, if known
	text               string // of the license
	notice             string // that an Apache license may ask to pass on
}

// modules returns what is in a program, with the standard library.
func modules(binary string) ([]module, error) {
	info, err := buildinfo.ReadFile(binary)
	if err != nil {
		return nil, err
	}
	goroot, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return nil, err
	}
	std := module{path: "std", version: strings.TrimPrefix(info.GoVersion, "go")}
	if err := std.read(strings.TrimSpace(string(goroot))); err != nil {
		return nil, err
	}
	list := []module{std}
	cache, err := exec.Command("go", "env", "GOMODCACHE").Output()
	if err != nil {
		return nil, err
	}
	for _, dep := range info.Deps {
		if dep.Replace != nil {
			return nil, fmt.Errorf("%s is replaced: a release is of what is published", dep.Path)
		}
		m := module{path: dep.Path, version: dep.Version, sum: dep.Sum}
		dir := filepath.Join(strings.TrimSpace(string(cache)), escape(dep.Path)+"@"+escape(dep.Version))
		if err := m.read(dir); err != nil {
			return nil, err
		}
		list = append(list, m)
	}
	slices.SortFunc(list, func(a, b module) int { return cmp.Compare(a.path, b.path) })
	return list, nil
}

// escape spells a path as the module cache does: !a for A.
func escape(s string) string {
	return regexp.MustCompile(`[A-Z]`).ReplaceAllStringFunc(s, func(c string) string { return "!" + strings.ToLower(c) })
}

// read finds a module's license.
func (m *module) read(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		name := strings.ToUpper(strings.TrimSuffix(strings.TrimSuffix(e.Name(), ".md"), ".txt"))
		into := map[string]*string{"LICENSE": &m.text, "LICENCE": &m.text, "COPYING": &m.text, "NOTICE": &m.notice}[name]
		if into == nil || *into != "" {
			continue
		}
		text, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return err
		}
		*into = strings.TrimSpace(strings.ReplaceAll(string(text), "\r\n", "\n"))
	}
	if m.text == "" {
		return fmt.Errorf("%s has no license", m.path)
	}
	m.license = spdx(m.text)
	return nil
}

// spdx returns the name of a license in the list of SPDX, or nothing.
func spdx(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	has := func(s string) bool { return strings.Contains(text, s) }
	switch {
	case has("Apache License Version 2.0"):
		return "Apache-2.0"
	case has("Permission is hereby granted, free of charge, to any person obtaining a copy"):
		return "MIT"
	case has("Redistribution and use in source and binary forms") && has("Neither the name"):
		return "BSD-3-Clause"
	case has("Redistribution and use in source and binary forms"):
		return "BSD-2-Clause"
	}
	return ""
}

// licenses are the texts of all, each once. Where a system has the text of a
// license itself, it is shared, and named instead.
func licenses(list []module, shared map[string]string) string {
	var b strings.Builder
	b.WriteString("lockd is one program with parts of others, whose licenses ask to be passed on with it:\n")
	var texts []string
	users := map[string][]string{}
	for _, m := range list {
		name := m.path + " " + m.version
		if m.path == "std" {
			name = "the Go standard library " + m.version
		}
		text := m.text
		if path := shared[m.license]; path != "" {
			text = fmt.Sprintf("License: %s, whose text is in %s on Debian systems.", m.license, path)
		}
		if m.notice != "" {
			text += "\n\nNOTICE:\n\n" + m.notice
		}
		if users[text] == nil {
			texts = append(texts, text)
		}
		users[text] = append(users[text], name)
	}
	for _, text := range texts {
		fmt.Fprintf(&b, "\n%s\n\n%s\n\n%s\n", strings.Repeat("-", 72), strings.Join(users[text], "\n"), text)
	}
	return b.String()
}
