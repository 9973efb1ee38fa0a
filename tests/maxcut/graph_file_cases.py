"""Graph files in every format, whole and faulty, with what must come of each."""

from __future__ import annotations

TRIANGLE = {(0, 1): 1.0, (0, 2): -2.0, (1, 2): 2.5}
HOUSE = {(0, 1): 1.0, (0, 2): 1.0, (1, 2): 1.0, (2, 3): 1.0}

# name: (text, format, n, edges, labels)
GOOD = {
    "rudy": ("3 3\n1 2 1\n1 3 -2\n2 3 2.5\n", "rudy", 3, TRIANGLE, None),
    "rudy, no weights": ("5 4\n1 2\n3 1\n2 3\n4 3\n", "rudy", 5, HOUSE, None),
    "rudy, last vertices isolated": ("9 1\n1 2 1\n", "rudy", 9, {(0, 1): 1.0}, None),
    "rudy, no vertices": ("0 0\n", "rudy", 0, {}, None),
    "rudy, no edges": ("3 0\n", "rudy", 3, {}, None),
    "rudy, zero weights kept": ("2 1\n1 2 0\n", "rudy", 2, {(0, 1): 0.0}, None),
    "rudy, no last newline": ("3 3\n1 2 1\n1 3 -2\n2 3 2.5", "rudy", 3, TRIANGLE, None),
    "rudy, CRLF": ("3 3\r\n1 2 1\r\n1 3 -2\r\n2 3 2.5\r\n", "rudy", 3, TRIANGLE, None),
    "rudy, blanks and blank lines": (
        "\n  3\t3 \n\n 1  2 1 \n\n1 3 -2\n2 3 2.5\n\n \n",
        "rudy",
        3,
        TRIANGLE,
        None,
    ),
    "rudy, byte order mark": ("\ufeff3 3\n1 2 1\n1 3 -2\n2 3 2.5\n", "rudy", 3, TRIANGLE, None),
    "rudy, loops and repetitions": (
        "3 6\n1 2 .5\n1 1 9\n2 1 .5\n1 3 -2\n3 2 1\n2 3 1.5\n",
        "rudy",
        3,
        TRIANGLE,
        None,
    ),
    "rudy, ways to write a number": ("3 3\n1 2 +1.\n1 3 -200e-2\n2 3 .25E+1\n", "rudy", 3, TRIANGLE, None),
    "mtx, real symmetric": (
        "%%MatrixMarket matrix coordinate real symmetric\n% made by hand\n\n3 3 4\n2 1 1\n3 1 -2\n% half\n"
        "3 2 2.5\n3 3 7\n",
        "mtx",
        3,
        TRIANGLE,
        None,
    ),
    "mtx, real general": (
        "%%matrixmarket Matrix Coordinate REAL General\n3 3 6\n"
        "2 1 1\n1 2 1\n3 1 -2\n1 3 -2\n3 2 2.5\n2 3 2.5\n",
        "mtx",
        3,
        TRIANGLE,
        None,
    ),
    "mtx, general but a triangle": (
        "%%MatrixMarket matrix coordinate real general\n3 3 3\n1 2 1\n1 3 -2\n2 3 2.5\n",
        "mtx",
        3,
        TRIANGLE,
        None,
    ),
    "mtx, general with a lone zero": (
        "%%MatrixMarket matrix coordinate integer general\n3 3 3\n1 2 4\n2 1 4\n3 1 0\n",
        "mtx",
        3,
        {(0, 1): 4.0, (0, 2): 0.0},
        None,
    ),
    "mtx, pattern": (
        "%%MatrixMarket matrix coordinate pattern symmetric\n4 4 4\n2 1\n3 1\n3 2\n4 3\n",
        "mtx",
        4,
        HOUSE,
        None,
    ),
    "mtx, integer": (
        "%%MatrixMarket matrix coordinate integer symmetric\n2 2 1\n2 1 -7\n",
        "mtx",
        2,
        {(0, 1): -7.0},
        None,
    ),
    "mtx, empty matrix": ("%%MatrixMarket matrix coordinate real general\n0 0 0\n", "mtx", 0, {}, None),
    "snap": ("# Undirected graph\n# From\tTo\n0\t1\n0\t2\n1\t2\n2\t3\n", "snap", 4, HOUSE, None),
    "snap, ids": ("5 9\n5 70\n9 70\n70 900\n", "snap", 4, HOUSE, [5, 9, 70, 900]),
    "snap, huge ids": (f"# \n5 {2**63 - 1}\n", "snap", 2, {(0, 1): 1.0}, [5, 2**63 - 1]),
    "snap, one-based ids": ("1 2\n1 3\n2 3\n3 4\n", "snap", 4, HOUSE, [1, 2, 3, 4]),
    "snap, both directions": ("# both\n0 1\n1 0\n0 2\n2 0\n1 2\n2 1\n2 3\n3 2\n", "snap", 4, HOUSE, None),
    "snap, one direction missing": ("# \n0 1\n1 0\n0 2\n", "snap", 3, {(0, 1): 2.0, (0, 2): 1.0}, None),
    "snap, weights": ("# w\n0 1 1\n0 2 -2\n1 2 2.5\n", "snap", 3, TRIANGLE, None),
    "snap, % comments": ("% sym\n0 1 1\n0 2 -2\n1 2 2.5\n", "snap", 3, TRIANGLE, None),
    "snap, loop": ("# \n0 1\n2 2\n", "snap", 3, {(0, 1): 1.0}, None),
    "metis": ("% a house\n4 4\n2 3\n1 3\n1 2 4\n3\n", "metis", 4, HOUSE, None),
    "metis, isolated": ("4 1\n\n3\n2\n\n", "metis", 4, {(1, 2): 1.0}, None),
    "metis, last row without newline": ("3 1\n2\n1\n", "metis", 3, {(0, 1): 1.0}, None),
    "metis, edge weights": ("3 3 1\n2 1 3 -2\n1 1 3 2.5\n1 -2 2 2.5\n", "metis", 3, TRIANGLE, None),
    "metis, vertex weights": ("4 4 010\n9 2 3\n9 1 3\n9 1 2 4\n9 3\n", "metis", 4, HOUSE, None),
    "metis, all weights": (
        "3 3 111 2\n1 8 9 2 1 3 -2\n1 8 9 1 1 3 2.5\n1 8 9 1 -2 2 2.5\n",
        "metis",
        3,
        TRIANGLE,
        None,
    ),
    "csv": ("source,target,weight\n0,1,1\n0,2,-2\n1,2,2.5\n", "csv", 3, TRIANGLE, None),
    "csv, no header": ("0,1\n0,2\n1,2\n2,3\n", "csv", 4, HOUSE, None),
    "csv, semicolons": ('"u";"v"\n0;1\n0;2\n1;2\n2;3\n', "csv", 4, HOUSE, None),
    "csv, tabs": ("from\tto\n0\t1\n0\t2\n1\t2\n2\t3\n", "csv", 4, HOUSE, None),
    "csv, blanks, CRLF": ("u , v\r\n0 , 1\r\n\r\n 0,2\r\n1,\t2 \r\n2,3", "csv", 4, HOUSE, None),
}

RUDY = "3 3\n1 2 1\n1 3 -2\n2 3 2.5\n"
MTX = "%%MatrixMarket matrix coordinate "
VERTICES_3 = "vertices are integers from 1 to 3."
FINITE = "weights are finite and within +-1e+37."
# name: (text, format, what the sentence says after the name of the file)
BAD = {
    "the sentence of the style guide": (
        "2000 2\n1 2\na 12\n",
        "rudy",
        ', line 3: expected "u v", got "a 12"; vertices are integers from 1 to 2000.',
    ),
    "empty": ("", None, ", line 1: the file is empty."),
    "only blanks": (" \n\r\n", None, ", line 1: the file is empty."),
    "only comments": ("# a\n# b\n", None, ", line 2: the file ends before its first edge."),
    "not a number": ("3 1\n1 x 1\n", "rudy", f', line 2: expected "u v [weight]", got "1 x 1"; {VERTICES_3}'),
    "decimal vertex": (
        "3 1\n1 2.0 1\n",
        "rudy",
        f', line 2: expected "u v [weight]", got "1 2.0 1"; {VERTICES_3}',
    ),
    "negative vertex": (
        "3 1\n1 -2 1\n",
        "rudy",
        f', line 2: expected "u v [weight]", got "1 -2 1"; {VERTICES_3}',
    ),
    "vertex 0 of 1-based": (
        "3 1\n0 2 1\n",
        "rudy",
        f', line 2: expected "u v [weight]", got "0 2 1"; {VERTICES_3}',
    ),
    "vertex over n": (
        "3 2\n1 2 1\n4 2 1\n",
        "rudy",
        f', line 3: expected "u v weight", got "4 2 1"; {VERTICES_3}',
    ),
    "vertex over 64 bits": (
        f"3 1\n1 {10**30} 1\n",
        "rudy",
        f', line 2: expected "u v [weight]", got "1 {10**30} 1"; {VERTICES_3}',
    ),
    "vertex where there are none": (
        "0 1\n1 2 1\n",
        "rudy",
        ', line 2: expected "u v [weight]", got "1 2 1"; the header says that there are no vertices.',
    ),
    "no second vertex": (
        "3 1\n1\n",
        "rudy",
        ', line 2: expected "u v [weight]", got "1"; a line has two or three columns.',
    ),
    "weight lost": (
        "3 2\n1 2 1\n1 3\n",
        None,
        ', line 3: expected "u v weight", got "1 3"; every line has 3 columns'
        " (read as rudy; if it is not, name its format).",
    ),
    "too many columns": (
        "3 1\n1 2 1 5\n",
        "rudy",
        ', line 2: expected "u v [weight]", got "1 2 1 5"; a line has two or three columns.',
    ),
    "weight too much": (
        "3 2\n1 2\n1 3 1\n",
        "rudy",
        ', line 3: expected "u v", got "1 3 1"; every line has 2 columns.',
    ),
    "weight no number": (
        "3 1\n1 2 1e\n",
        "rudy",
        ', line 2: expected "u v [weight]", got "1 2 1e"; weights are decimal numbers.',
    ),
    "weight in hexadecimal": (
        "3 1\n1 2 0x1p3\n",
        "rudy",
        ', line 2: expected "u v [weight]", got "1 2 0x1p3"; weights are decimal numbers.',
    ),
    "weight with underscore": (
        "3 1\n1 2 1_0\n",
        "rudy",
        ', line 2: expected "u v [weight]", got "1 2 1_0"; weights are decimal numbers.',
    ),
    "nan": ("3 1\n1 2 NaN\n", "rudy", f', line 2: expected "u v [weight]", got "1 2 NaN"; {FINITE}'),
    "inf": ("3 1\n1 2 -inf\n", "rudy", f', line 2: expected "u v [weight]", got "1 2 -inf"; {FINITE}'),
    "infinity": (
        "3 1\n1 2 Infinity\n",
        "rudy",
        f', line 2: expected "u v [weight]", got "1 2 Infinity"; {FINITE}',
    ),
    "weight over the limit": ("3 1\n1 2 2e37\n", "rudy", f', line 2: {FINITE[:-1]}; got "2e37".'),
    "weight over float64": ("3 2\n1 2 1\n1 2 1e999\n", "rudy", f', line 3: {FINITE[:-1]}; got "1e999".'),
    "sum over the limit": (
        "2 2\n1 2 9e36\n1 2 9e36\n",
        "rudy",
        ": weights must lie within +-1e+37; repeated edges add up to more.",
    ),
    "too few edges": (
        RUDY.replace("3 3", "3 4"),
        None,
        ", line 4: the number of edges in the header is 4; the file ends after 3"
        " (read as rudy; if it is not, name its format).",
    ),
    "too many edges": (
        RUDY.replace("3 3", "3 2"),
        "rudy",
        ", line 4: the number of edges in the header is 2; this line is one more.",
    ),
    "header with a letter": (
        "3 m\n1 2 1\n",
        None,
        ', line 1: expected "n m, u v, u v weight, or a CSV header", got "3 m"; '
        "no format opens with this line.",
    ),
    "header of one number": (
        "3\n1 2 1\n",
        "rudy",
        ', line 1: expected "n m", got "3"; these are integers from 0.',
    ),
    "10^18 vertices": (
        f"{10**18} 1\n1 2 1\n",
        "rudy",
        f", line 1: a graph has at most 2147483647 vertices; got {10**18}.",
    ),
    "10^18 edges": (
        f"2 {10**18}\n1 2 1\n",
        "rudy",
        f", line 1: a graph has at most 2147483647 edges; got {10**18}.",
    ),
    "2^31 edges, no allocation": (
        "2 2147483647\n1 2 1\n",
        "rudy",
        ", line 2: the number of edges in the header is 2147483647; the file ends after 1.",
    ),
    "2e9 vertices, 3 edges": (
        "2000000000 3\n1 2 1\n2 3 1\n1 3 1\n",
        "rudy",
        ", line 1: a graph has at most 16777216 vertices without an edge; "
        "got 2000000000 vertices with 3 edges.",
    ),
    "header of 5000 digits": (
        "9" * 5000 + " 1\n1 2 1\n",
        "rudy",
        f", line 1: a graph has at most 2147483647 vertices; got {10**19}.",
    ),
    "binary": ("3 1\n1 \0 1\n", None, ", line 2: the file is binary, not text (byte 6 is 0)."),
    "bzip2": (b"BZh91AY", None, ", line 1: the file is compressed with bzip2; only gzip is read."),
    "UTF-16": (
        "3 1\n1 2 1\n".encode("utf-16"),
        None,
        ", line 1: the file is UTF-16 text; save it as UTF-8 or ASCII.",
    ),
    "not UTF-8": (
        b"3 1\n1 \xe92 1\n",
        "rudy",
        f', line 2: expected "u v [weight]", got "1 \\xe92 1"; {VERTICES_3}',
    ),
    "long line": (
        f"3 1\n1 2 {'7' * 500}x\n",
        "rudy",
        f', line 2: expected "u v [weight]", got "1 2 {"7" * 18}...{"7" * 22}"; weights are decimal numbers.',
    ),
    "escape characters": (
        "3 1\n1 \x1b[2J 1\n",
        "rudy",
        f', line 2: expected "u v [weight]", got "1 \\x1b[2J 1"; {VERTICES_3}',
    ),
    "rudy or metis": (
        "3 3\n2 3\n1 3\n1 2\n",
        None,
        ", line 1: the file can be read as rudy or metis; name one of them as its format.",
    ),
    "rudy or snap": (
        "# mine\n3 3\n2 3\n1 3\n1 2\n",
        None,
        ", line 2: the file can be read as rudy or snap; name one of them as its format.",
    ),
    "mtx, no banner": (
        "3 3 1\n2 1 1\n",
        "mtx",
        ', line 1: expected "%%MatrixMarket matrix coordinate '
        'real|integer|pattern general|symmetric", got "3 3 1".',
    ),
    "mtx, banner lost": (
        "3 3 2\n2 1 5\n3 1 5\n",
        None,
        ', line 1: expected "%%MatrixMarket matrix coordinate real|integer|pattern general|symmetric", '
        'got "3 3 2" (read as mtx; if it is not, name its format).',
    ),
    "mtx, complex": (
        MTX + "complex symmetric\n2 2 1\n2 1 1 1\n",
        None,
        ', line 1: expected "%%MatrixMarket matrix coordinate real|integer|pattern general|symmetric", '
        'got "%%MatrixMarket matrix ...nate complex symmetric".',
    ),
    "mtx, not square": (
        MTX + "real general\n2 3 1\n2 1 1\n",
        None,
        ", line 2: the adjacency matrix of a graph is square; got 2 x 3.",
    ),
    "mtx, no size": (MTX + "real general\n%\n", None, ", line 2: the file ends before its first edge."),
    "mtx, no value": (
        MTX + "real symmetric\n2 2 1\n2 1\n",
        None,
        ', line 3: expected "u v weight", got "2 1"; every line has 3 columns.',
    ),
    "mtx, value in a pattern": (
        MTX + "pattern symmetric\n2 2 1\n2 1 1\n",
        None,
        ', line 3: expected "u v", got "2 1 1"; every line has 2 columns.',
    ),
    "mtx, fraction in an integer matrix": (
        MTX + "integer symmetric\n3 3 2\n2 1 1\n\n3 1 .5\n",
        None,
        ", line 5: the entries of an integer matrix are integers; got 0.5.",
    ),
    "mtx, too few entries": (
        MTX + "pattern symmetric\n2 2 2\n2 1\n",
        None,
        ", line 3: the number of entries in the header is 2; the file ends after 1.",
    ),
    "mtx, asymmetric": (
        MTX + "real general\n3 3 4\n1 2 5\n2 1 5\n% here\n2 3 1\n3 2 1.25\n",
        None,
        ", line 6: the matrix must be symmetric or a triangle; entry (2, 3) is 1 but entry (3, 2) is 1.25.",
    ),
    "mtx, one entry without its mirror": (
        MTX + "pattern general\n3 3 3\n1 2\n2 1\n3 1\n",
        None,
        ", line 5: the matrix must be symmetric or a triangle; entry (1, 3) is absent but entry (3, 1) is 1.",
    ),
    "snap, negative id": (
        "# \n-1 2\n",
        None,
        ', line 2: expected "n m, u v, u v weight, or a CSV header", '
        'got "-1 2"; no format opens with this line.',
    ),
    "snap, id over 64 bits": (
        f"# \n0 1\n1 {2**63}\n",
        None,
        f', line 3: expected "u v", got "1 {2**63}"; vertices are integers from 0 to 2^63 - 1.',
    ),
    "snap, comma": (
        "# \n0 1\n1,2\n",
        None,
        ', line 3: expected "u v", got "1,2"; vertices are integers from 0 to 2^63 - 1.',
    ),
    "metis, asymmetric": (
        "3 2\n2 3\n1\n2\n",
        "metis",
        ", line 2: vertex 1 lists 3 with weight 1 but vertex 3 does not list it.",
    ),
    "metis, asymmetric from below": (
        "% c\n4 2\n2\n1\n\n3 1\n",
        "metis",
        ", line 6: vertex 4 lists 1 with weight 1 but vertex 1 does not list it.",
    ),
    "metis, two weights": (
        "2 1 1\n2 3\n1 4\n",
        "metis",
        ", line 2: vertex 1 lists 2 with weight 3 but vertex 2 lists it with weight 4.",
    ),
    "metis, wrong edge count": (
        "3 3\n2 3\n1\n1\n",
        "metis",
        ", line 1: the header promises 3 edges, each in the lines of both its ends; "
        "the file lists 4 neighbours, not 6.",
    ),
    "metis, too few rows": (
        "5 1\n2\n1\n",
        "metis",
        ", line 3: the header promises 5 vertices, one a line; the file has 2.",
    ),
    "metis, too many rows": (
        "2 1\n2\n1\n1\n",
        "metis",
        ", line 4: the number of vertices in the header is 2, one a line; this line is one more.",
    ),
    "metis, neighbour out of range": (
        "2 1\n2\n3\n",
        "metis",
        ', line 3: expected "neighbour ...", got "3"; vertices are integers from 1 to 2.',
    ),
    "metis, weight missing": (
        "2 1 1\n2 5\n1\n",
        "metis",
        ', line 3: expected "neighbour weight ...", got "1"; the line ends too early.',
    ),
    "metis, vertex weight missing": (
        "2 1 10\n1 2\n\n",
        "metis",
        ', line 3: expected "1 vertex numbers, then neighbour ...", got ""; the line ends too early.',
    ),
    "metis, fmt": (
        "2 1 7\n2\n1\n",
        "metis",
        ', line 1: expected "n m [fmt [ncon]]", got "2 1 7"; fmt is three digits, each 0 or 1.',
    ),
    "metis, ncon without weights": (
        "2 1 1 3\n2 1\n1 1\n",
        "metis",
        ", line 1: fmt 1 does not go with 3 weights a vertex.",
    ),
    "csv, empty field": (
        "0,1,2\n1,2,\n",
        None,
        ', line 2: expected "u,v,weight", got "1,2,"; weights are decimal numbers.',
    ),
    "csv, no vertex": (
        "0,1\n1,\n",
        None,
        ', line 2: expected "u,v", got "1,"; vertices are integers from 0 to 2^63 - 1.',
    ),
    "csv, header only": ("u,v\n", None, ", line 1: the file holds no edge."),
    "csv, four columns": (
        "source,target,weight,kind\n0,1,2,3\n",
        None,
        ', line 1: expected "u,v[,weight]", got "source,target,weight,kind"; '
        "columns are the two vertices, then perhaps the weight.",
    ),
    "csv, columns in another order": (
        "id,source,target\n0,1,2\n",
        None,
        ', line 1: expected "u,v[,weight]", got "id,source,target"; '
        "columns are the two vertices, then perhaps the weight.",
    ),
    "csv, no delimiter": (
        "0 1\n",
        "csv",
        ', line 1: expected "u,v[,weight]", got "0 1"; columns are split by comma, semicolon or tab.',
    ),
    "csv, blank inside a field": (
        "0,1\n1 2,3\n",
        None,
        ', line 2: expected "u,v", got "1 2,3"; every line has 2 columns.',
    ),
    "csv, names as vertices": (
        "u,v\nann,bob\n",
        None,
        ', line 2: expected "u,v", got "ann,bob"; vertices are integers from 0 to 2^63 - 1.',
    ),
}
