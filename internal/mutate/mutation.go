package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"strconv"
	"strings"
)

// A mutation replaces some bytes of a file.
type mutation struct {
	file     string
	line     int
	from, to int // the bytes that go
	old, new string
}

func (m mutation) String() string {
	return fmt.Sprintf("%s:%d: %s -> %s", m.file, m.line, short(m.old), short(m.new))
}

// short puts code into one line of a report.
func short(code string) string {
	code = strings.Join(strings.Fields(code), " ")
	if code == "" {
		return "(nothing)"
	}
	if len(code) > 60 {
		code = code[:57] + "..."
	}
	return code
}

// mutationsOf finds all mutations of files, in their order.
func mutationsOf(files []string) ([]mutation, error) {
	var all []mutation
	for _, file := range files {
		source, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		found, err := mutations(file, source)
		if err != nil {
			return nil, err
		}
		all = append(all, found...)
	}
	return all, nil
}

// otherOperators are what an operator can become.
var otherOperators = map[token.Token]string{
	token.EQL: "!=", token.NEQ: "==", token.LSS: "<=", token.LEQ: "<", token.GTR: ">=", token.GEQ: ">",
	token.LAND: "||", token.LOR: "&&", token.ADD: "-", token.SUB: "+", token.MUL: "/", token.QUO: "*",
	token.ADD_ASSIGN: "-=", token.SUB_ASSIGN: "+=", token.INC: "--", token.DEC: "++",
}

// mutations finds the mutations of one file: another operator, a condition that is negated, a
// number that is larger, a statement that is left out, true for false, and no error for an error.
func mutations(name string, source []byte) ([]mutation, error) {
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, name, source, parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	var found []mutation
	replace := func(from, to token.Pos, by string) {
		start, end := fset.Position(from), fset.Position(to)
		found = append(found, mutation{name, start.Line, start.Offset, end.Offset, string(source[start.Offset:end.Offset]), by})
	}
	operator := func(at token.Pos, op token.Token) {
		if other, ok := otherOperators[op]; ok {
			replace(at, at+token.Pos(len(op.String())), other)
		}
	}
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.ImportSpec, *ast.Field:
			return false // the length of an array, say
		case *ast.CallExpr:
			return !isLog(n)
		case *ast.BinaryExpr:
			operator(n.OpPos, n.Op)
		case *ast.IncDecStmt:
			operator(n.TokPos, n.Tok)
		case *ast.IfStmt:
			if _, compared := n.Cond.(*ast.BinaryExpr); !compared {
				text := string(source[fset.Position(n.Cond.Pos()).Offset:fset.Position(n.Cond.End()).Offset])
				replace(n.Cond.Pos(), n.Cond.End(), "!("+text+")")
			}
		case *ast.BasicLit:
			if n.Kind == token.INT {
				if value, err := strconv.ParseInt(n.Value, 0, 32); err == nil {
					replace(n.Pos(), n.End(), strconv.FormatInt(larger(value), 10))
				}
			}
		case *ast.ExprStmt:
			if call, ok := n.X.(*ast.CallExpr); ok && !isLog(call) {
				replace(n.Pos(), n.End(), "")
			}
		case *ast.AssignStmt:
			if n.Tok != token.DEFINE {
				operator(n.TokPos, n.Tok)
				replace(n.Pos(), n.End(), "")
			}
		case *ast.ReturnStmt:
			for _, value := range n.Results {
				ident, ok := value.(*ast.Ident)
				if !ok {
					continue
				}
				switch ident.Name {
				case "true":
					replace(ident.Pos(), ident.End(), "false")
				case "false":
					replace(ident.Pos(), ident.End(), "true")
				case "err":
					replace(ident.Pos(), ident.End(), "nil")
				}
			}
		}
		return true
	})
	return found, nil
}

// larger returns a number that a test can tell from n, even if it is a limit or a time.
func larger(n int64) int64 {
	if n < 16 {
		return n + 1
	}
	return 2 * n
}

// isLog tells whether a call only writes to a log.
func isLog(call *ast.CallExpr) bool {
	sel, ok := call.Fun.(*ast.SelectorExpr)
	if !ok {
		return false
	}
	switch sel.Sel.Name {
	case "Debugf", "Infof", "Warnf", "Errorf", "Helper":
		x, isName := sel.X.(*ast.Ident)
		return !isName || x.Name != "fmt"
	}
	return false
}

// apply returns the source with the mutation.
func (m mutation) apply(source []byte) []byte {
	return []byte(string(source[:m.from]) + m.new + string(source[m.to:]))
}
