package gen

import (
	"go/ast"
	"go/token"
	"path"
	"regexp"
	"strconv"
)

// declarations returns what a file declares at package level, methods as
// Type.Method.
func declarations(f *ast.File) map[string]token.Pos {
	found := map[string]token.Pos{}
	add := func(id *ast.Ident, name string) {
		if name != "_" && name != "init" {
			found[name] = id.Pos()
		}
	}
	for _, d := range f.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			if d.Recv == nil {
				add(d.Name, d.Name.Name)
			} else if len(d.Recv.List) == 1 {
				add(d.Name, receiver(d.Recv.List[0].Type)+"."+d.Name.Name)
			}
		case *ast.GenDecl:
			for _, s := range d.Specs {
				switch s := s.(type) {
				case *ast.TypeSpec:
					add(s.Name, s.Name.Name)
				case *ast.ValueSpec:
					for _, id := range s.Names {
						add(id, id.Name)
					}
				}
			}
		}
	}
	return found
}

func receiver(e ast.Expr) string {
	for {
		switch x := e.(type) {
		case *ast.StarExpr:
			e = x.X
		case *ast.ParenExpr:
			e = x.X
		case *ast.IndexExpr:
			e = x.X
		case *ast.IndexListExpr:
			e = x.X
		case *ast.Ident:
			return x.Name
		default:
			return ""
		}
	}
}

var majorVersion = regexp.MustCompile(`^v[0-9]+$`)

// imports returns the names under which a file imports packages. Where none is
// given it is guessed from the path.
func imports(f *ast.File) map[string]token.Pos {
	found := map[string]token.Pos{}
	for _, s := range f.Imports {
		p, err := strconv.Unquote(s.Path.Value)
		if err != nil {
			continue
		}
		name := path.Base(p)
		if majorVersion.MatchString(name) {
			name = path.Base(path.Dir(p))
		}
		if s.Name != nil {
			name = s.Name.Name
		}
		if name != "_" && name != "." {
			found[name] = s.Pos()
		}
	}
	return found
}
