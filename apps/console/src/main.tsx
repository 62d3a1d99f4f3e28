import { StrictMode } from 'react'
import { createRoot } from 'react-dom/client'
import { App } from './app.tsx'
import './styles.css'
import { words } from './words/words.ts'

document.documentElement.lang = words.language
const root = document.getElementById('root')
if (!root) throw new Error('Cannot find "#root" in index.html')
createRoot(root).render(
  <StrictMode>
    <App />
  </StrictMode>,
)
