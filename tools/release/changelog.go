package main

import (
	"fmt"
	"regexp"
	"strings"
	"time"
)

var (
	heading = regexp.MustCompile(`(?m)^## \[(Unreleased|\d+\.\d+\.\d+)\](?: - (\d{4}-\d\d-\d\d))?$`)
	link    = regexp.MustCompile(`\[([^\]]*)\]\([^)]*\)`)
)

// changelog makes Debian's form of CHANGELOG.md. What is not released yet is of
// the version that the program tells.
func changelog(markdown string, s source, release, maintainer string) (string, error) {
	var b strings.Builder
	found := heading.FindAllStringSubmatchIndex(markdown, -1)
	if found == nil {
		return "", fmt.Errorf("there is no version in CHANGELOG.md")
	}
	for i, at := range found {
		part := markdown[at[1]:]
		if i+1 < len(found) {
			part = markdown[at[1]:found[i+1][0]]
		}
		version, date := markdown[at[2]:at[3]], s.date
		switch {
		case version == "Unreleased":
			version = s.version
		case at[4] < 0:
			return "", fmt.Errorf("CHANGELOG.md: version %s has no date", version)
		default:
			var err error
			if date, err = time.Parse(time.DateOnly, markdown[at[4]:at[5]]); err != nil {
				return "", fmt.Errorf("CHANGELOG.md: %w", err)
			}
		}
		items := bullets(part)
		if len(items) == 0 {
			continue // nothing since the last version
		}
		fmt.Fprintf(&b, "lockd (%s-%s) unstable; urgency=medium\n\n", version, release)
		for _, item := range items {
			b.WriteString(wrap(item, "  * ", "    "))
		}
		fmt.Fprintf(&b, "\n -- %s  %s\n\n", maintainer, date.UTC().Format(time.RFC1123Z))
	}
	return strings.TrimSuffix(b.String(), "\n"), nil
}

// bullets returns the items of a part's lists, without what is for Markdown.
func bullets(part string) (items []string) {
	for line := range strings.Lines(part) {
		line = strings.TrimRight(line, "\n")
		switch {
		case strings.HasPrefix(line, "- "):
			items = append(items, strings.TrimPrefix(line, "- "))
		case strings.HasPrefix(line, "  ") && len(items) > 0:
			items[len(items)-1] += " " + strings.TrimSpace(line)
		}
	}
	for i, item := range items {
		items[i] = strings.ReplaceAll(link.ReplaceAllString(item, "$1"), "**", "")
	}
	return items
}

func wrap(text, first, others string) string {
	const width = 78
	var b strings.Builder
	line := strings.TrimRight(first, " ")
	for word := range strings.FieldsSeq(text) {
		if len(line)+1+len(word) > width && strings.TrimSpace(line) != "*" {
			b.WriteString(line + "\n")
			line = others[:len(others)-1]
		}
		line += " " + word
	}
	b.WriteString(line + "\n")
	return b.String()
}
