"""What every package may use. It knows neither torch models nor fairseq.

| file | concept |
|---|---|
| `errors` | the one exception that a user is meant to read, in one line |
| `arguments` | numbers on the command line, checked |
| `files` | whole files or none |
| `needs` | packages that one tool needs and the others do not |
| `unpack` | packed files of others, in bounded time and memory |
| `changes` | in what two models differ |
"""
