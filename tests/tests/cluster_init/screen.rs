//! What a person sees on a terminal after some output: the few controls that progress bars use.

/// Lines of characters, and where the next one goes.
#[derive(Debug, Default)]
pub(crate) struct Screen {
    lines: Vec<Vec<char>>,
    row: usize,
    column: usize,
}

/// How many characters a line has.
pub(crate) const WIDTH: usize = 200;

impl Screen {
    /// The screen after this output.
    pub(crate) fn after(output: &str) -> Self {
        let mut screen = Self { lines: vec![Vec::new()], ..Self::default() };
        let mut rest = output.chars();
        while let Some(c) = rest.next() {
            match c {
                '\r' => screen.column = 0,
                '\n' => screen.goes_to(screen.row + 1),
                '\u{1b}' => {
                    assert_eq!(rest.next(), Some('['), "{output:?}");
                    let mut number = String::new();
                    let end = rest.by_ref().find(|c| match c.is_ascii_digit() {
                        true => {
                            number.push(*c);
                            false
                        }
                        false => true,
                    });
                    screen.obeys(end, number.parse().ok());
                }
                c => screen.shows(c),
            }
        }
        screen
    }

    /// A control sequence of ECMA-48.
    fn obeys(&mut self, end: Option<char>, number: Option<usize>) {
        let count = number.unwrap_or(1);
        match (end, number) {
            (Some('A'), _) => self.row = self.row.saturating_sub(count),
            (Some('B'), _) => self.goes_to(self.row + count),
            (Some('K'), Some(2)) => self.lines[self.row].clear(),
            (Some('K'), None | Some(0)) => self.lines[self.row].truncate(self.column),
            other => panic!("a control that is not known: {other:?}"),
        }
    }

    fn goes_to(&mut self, row: usize) {
        self.row = row;
        self.lines.resize(self.lines.len().max(row + 1), Vec::new());
    }

    fn shows(&mut self, c: char) {
        // A line that is full is left by the character that comes next.
        if self.column == WIDTH {
            self.goes_to(self.row + 1);
            self.column = 0;
        }
        let line = &mut self.lines[self.row];
        line.resize(line.len().max(self.column + 1), ' ');
        line[self.column] = c;
        self.column += 1;
    }

    /// The lines that are not empty.
    pub(crate) fn lines(&self) -> Vec<String> {
        let lines = self.lines.iter().map(|line| line.iter().collect::<String>());
        lines.map(|line| line.trim_end().to_owned()).filter(|line| !line.is_empty()).collect()
    }
}
